"""The model card: what a served model is, what it was measured to do, and its limits."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tensorflow.core.framework import types_pb2

from robustcls.runs import versions, write_text
from robustcls.serving.exports.archive import read_saved_model
from robustcls.serving.exports.configuration import render

CARD = "MODEL_CARD.md"


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """What the card says beside the signatures, which it reads from the SavedModel.

    Attributes:
        summary: one paragraph.
        use: what the model is for.
        meanings: outputs that their names do not explain.
        limits: what it is not for.
        data: facts about the data by name.
        metrics: rows of `name`, `value`, `interval` and `count`.
        config: all settings.
        comparison: what `compare` measured, of a format that is not float32.
    """

    summary: str
    use: tuple[str, ...]
    meanings: Mapping[str, str]
    limits: tuple[str, ...]
    data: Mapping[str, Any] = field(default_factory=dict)
    metrics: tuple[Mapping[str, Any], ...] = ()
    config: Mapping[str, Any] = field(default_factory=dict)
    comparison: Mapping[str, Any] | None = None

    @property
    def settings(self) -> str:
        """The settings as JSON."""
        return json.dumps({**self.config, "exported_with": versions()}, indent=2, default=str)


def write_card(
    folder: Path, name: str, card: ModelCard, signatures: Sequence[Mapping[str, str]] | None = None
) -> None:
    """Writes the card into the folder of a version.

    Args:
        folder: of the version.
        name: the model's name.
        card: what to say.
        signatures: rows of `name`, `inputs` and `outputs`; by default what the SavedModel says.
    """
    rows = _signatures(folder) if signatures is None else signatures
    write_text(folder / CARD, render(CARD, name=name, card=card, signatures=rows))


def _signatures(folder: Path) -> list[dict[str, str]]:
    signatures = read_saved_model(folder).meta_graphs[0].signature_def
    return [
        {
            "name": key,
            "inputs": _tensors(signature.inputs),
            "outputs": _tensors(signature.outputs),
        }
        for key, signature in sorted(signatures.items())
        if not key.startswith("__")
    ]


def metric_row(name: str, value: float, interval: Mapping[str, Any] | None) -> dict[str, Any]:
    """Returns a row of the table of metrics, shares in %."""
    low_high = f"{100 * interval['low']:.1f} to {100 * interval['high']:.1f}" if interval else ""
    count = interval["count"] if interval else ""
    return {"name": name, "value": f"{100 * value:.1f} %", "interval": low_high, "count": count}


def _tensors(tensors: Mapping[str, Any]) -> str:
    described = []
    for name, info in sorted(tensors.items()):
        kind = types_pb2.DataType.Name(info.dtype).removeprefix("DT_").lower()
        kind = {"float": "float32"}.get(kind, kind)
        sizes = ["N" if d.size < 0 else str(d.size) for d in info.tensor_shape.dim]
        described.append(f"`{name}` {kind} [{', '.join(sizes)}]")
    return ", ".join(described)
