"""What is known of each robust model of a zoo; needs no TensorFlow."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from robustcls._validation import InputError, check_choice
from robustcls.runs import read_json, write_json

#: The zoo inside the package.
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
        input_range: what the model wants 0 and 1 to be, when not these (default None).
        skipped: unreadable files of `data` that were left out on request (default ()).
        folder: of the zoo (default the package's own).
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
    input_range: tuple[float, float] | None = None
    skipped: tuple[str, ...] = ()
    folder: Path = FOLDER

    @property
    def weights(self) -> Path:
        """The file of the model."""
        return self.folder / f"{self.name}.keras"

    @property
    def ball(self) -> str:
        """What was attacked, in words."""
        return f"{'L-infinity' if self.norm == 'inf' else f'L{self.norm}'} {self.epsilon:g}"

    def write(self) -> Path:
        """Writes the card into its folder; returns its file."""
        fields = asdict(self)
        del fields["name"], fields["folder"]
        path = self.folder / f"{self.name}.json"
        write_json(path, fields)
        return path


def names(folder: Path | str | None = None) -> list[str]:
    """Returns the names of the models in a zoo, sorted.

    Args:
        folder: of the zoo; None is the package's own (Path, str or None, default None).

    Raises:
        InputError: there is no card in the folder.
    """
    place = FOLDER if folder is None else Path(folder)
    found = sorted(path.stem for path in place.glob("*.json"))
    if not found:
        raise InputError(f"folder must hold cards, NAME.json beside NAME.keras; {place} has none.")
    return found


def read_card(name: str, folder: Path | str | None = None) -> Card:
    """Returns the card of a model.

    Args:
        name: one of `names(folder)`.
        folder: of the zoo; None is the package's own (Path, str or None, default None).

    Raises:
        InputError: there is no such model (the message lists all and the nearest), or its card
            lacks something.
    """
    check_choice("name", name, names(folder))
    place = FOLDER if folder is None else Path(folder)
    path = place / f"{name}.json"
    fields: dict[str, Any] = read_json(path)
    try:
        return Card(name=name, folder=place, **fields)
    except TypeError as error:
        raise InputError(f"{path} must be a card of a model; {error}.") from None
