"""What is known of each robust model in the package; needs no TensorFlow."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robustcls._validation import check_choice
from robustcls.runs import read_json

FOLDER = Path(__file__).parent


@dataclass(frozen=True, kw_only=True)
class Card:
    """A card: `NAME.json` beside the weights, `NAME.keras`.

    Attributes:
        name: what `load_pretrained` takes.
        data: the images it was trained on, as for `robustcls.load`.
        norm: of the ball, "inf" or "2".
        epsilon: its radius for images in [0, 1].
        objective: what it was trained with.
        command: what made it.
        machine: where, and how long it took.
        date: when.
        licence: of the weights.
        parameters: how many.
        sha256: of the weights' file.
        results: accuracy in [0, 1] of the test images by name: `clean`, `certified` (by interval
            bounds), and attacks.
        images: how many test images that is.
    """

    name: str
    data: str
    norm: str
    epsilon: float
    objective: str
    command: str
    machine: str
    date: str
    licence: str
    parameters: int
    sha256: str
    results: dict[str, float]
    images: int

    @property
    def weights(self) -> Path:
        """The file of the model."""
        return FOLDER / f"{self.name}.keras"


def names() -> list[str]:
    """Returns the names of the models in the package, sorted."""
    return sorted(path.stem for path in FOLDER.glob("*.json"))


def read_card(name: str) -> Card:
    """Returns the card of a model.

    Args:
        name: one of `names()`.

    Raises:
        InputError: there is no such model; the message lists all and the nearest.
    """
    check_choice("name", name, names())
    fields: dict[str, Any] = read_json(FOLDER / f"{name}.json")
    return Card(name=name, **fields)
