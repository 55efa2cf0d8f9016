"""One image of a report as a figure for a paper."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from robustcls._validation import InputError, check_choice
from robustcls.files import atomic
from robustcls.plots.figure import Plot

RECORDS = "explanations.jsonl"
FORMS = (".png", ".pdf", ".svg")
_PANEL = 1.6
_SIGNED, _POSITIVE = "RdBu_r", "viridis"


def export_figure(
    folder: Path | str,
    image: str,
    out: Path | str,
    *,
    models: Sequence[str] = (),
    methods: Sequence[str] = (),
) -> Path:
    """Draws an image of a report, its attacked twin and their maps, a row for each model.

    Maps of the image and of its twin share a scale. Nothing is computed anew: it takes what
    `explain` has written.

    Args:
        folder: that `explain` wrote to, or the run.
        image: its name in the report.
        out: the file, which ends in .png, .pdf or .svg.
        models: names of some; all when empty (default ()).
        methods: names of some; all when empty (default ()).

    Returns:
        The file.

    Raises:
        InputError: there is no report, no such image, model or method, or the file cannot be
            written.
    """
    out = Path(out)
    if out.suffix.lower() not in FORMS:
        raise InputError(f"out must end in {', '.join(FORMS)}; received {out.name!r}.")
    place, records = _records(Path(folder))
    names = list(dict.fromkeys(str(record["id"]) for record in records))
    check_choice("image", image, names)
    found = {record["model"]: record for record in records if record["id"] == image}
    for name in models:
        check_choice("models", name, found)
    chosen = {name: found[name] for name in models or found}
    drawn = {name: _arrays(place, name, record) for name, record in chosen.items()}
    known = list(dict.fromkeys(method for record in chosen.values() for method in record["maps"]))
    for name in methods:
        check_choice("methods", name, known)
    columns = list(methods) or known
    attacked = any("adversarial" in arrays for arrays in drawn.values())
    each = 2 if attacked else 1
    figure = Plot(_PANEL * each * (1 + len(columns)) + 0.4, (_PANEL + 0.55) * len(drawn), dpi=300)
    grid = figure.subplots(len(drawn), each * (1 + len(columns)), squeeze=False)
    for axes, (name, record) in zip(grid, chosen.items(), strict=True):
        _draw_row(axes, name, record, drawn[name], columns, each)
    form = out.suffix.lower().removeprefix(".")
    # Without a date the same report makes the same file.
    made = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}.get(form, {})
    out.parent.mkdir(parents=True, exist_ok=True)
    with atomic(out) as temporary:
        figure.savefig(temporary, format=form, metadata=made)
    return out


def _records(folder: Path) -> tuple[Path, list[dict[str, Any]]]:
    for place in (folder, folder / "report"):
        if (place / RECORDS).is_file():
            try:
                lines = (place / RECORDS).read_text(encoding="utf-8").splitlines()
                return place, [json.loads(line) for line in lines]
            except (OSError, ValueError) as error:
                raise _damaged(place / RECORDS, error) from None
    raise InputError(
        f"folder must be one that robustcls explain wrote to, or its run; {folder} has no "
        f"{RECORDS}. Did you mean to run robustcls explain first?"
    )


def _arrays(place: Path, model: str, record: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """What there is of one image, by the names of `ModelResults.save_maps`."""
    path = place / "maps" / f"{model}.npz"
    if not path.is_file():
        raise InputError(f"folder must hold the raw maps; {path} is missing.")
    try:
        with np.load(path) as stored:
            per_image = [name for name in stored.files if name not in ("class_images", "explained")]
            return {name: stored[name][record["row"]] for name in per_image}
    except (OSError, ValueError, IndexError, zipfile.BadZipFile) as error:
        raise _damaged(path, error) from None


def _damaged(path: Path, error: Exception) -> InputError:
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return InputError(
        f"folder must hold a whole report; {path} is damaged: {reason}. Run explain again."
    )


def _draw_row(
    axes: Sequence[Axes],
    model: str,
    record: Mapping[str, Any],
    arrays: Mapping[str, np.ndarray],
    methods: Sequence[str],
    each: int,
) -> None:
    for panel in axes:
        panel.set_axis_off()
    panels = iter(axes)
    for name, key in (("images", "clean"), ("adversarial", "adversarial"))[:each]:
        panel = next(panels)
        if name in arrays:
            shown = np.clip(arrays[name], 0, 1)
            shown = np.broadcast_to(shown, (*shown.shape[:2], 3))
            panel.imshow(shown, interpolation="none")
            best = record[key][0]
            words = f"{best['name']}, {100 * best['probability']:.0f} %"
            panel.set_title(f"{model}: {words}" if name == "images" else words, fontsize=7)
    for method in methods:
        pair = [_map(arrays, prefix + method) for prefix in ("", "adversarial_")][:each]
        scale = max(
            (float(np.abs(found).max()) for found, _ in pair if found is not None), default=0
        )
        for (found, signed), words in zip(pair, (method, "attacked"), strict=False):
            panel = next(panels)
            if found is None:
                continue
            ends: dict[str, Any] = {"vmin": -(scale or 1) if signed else 0, "vmax": scale or 1}
            cmap = _SIGNED if signed else _POSITIVE
            drawn = panel.imshow(found, cmap=cmap, interpolation="none", **ends)
            panel.set_title(words, fontsize=7)
            if words == method:
                # Below the panel, of whose room it takes none: all panels of a row stay in line.
                below = panel.inset_axes((0.1, -0.09, 0.8, 0.04))
                panel.figure.colorbar(drawn, cax=below, orientation="horizontal")
                below.tick_params(labelsize=5)


def _map(arrays: Mapping[str, np.ndarray], name: str) -> tuple[np.ndarray | None, bool]:
    """A map, and whether it has a sign."""
    if f"{name}_positive" not in arrays:
        return None, False
    positive, negative = arrays[f"{name}_positive"], arrays.get(f"{name}_negative")
    return (positive, False) if negative is None else (positive - negative, True)
