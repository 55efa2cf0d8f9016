"""Several evaluations of one run: their names and folders, and links between a run's pages.

The one called `default` is in the run itself (`metrics.json`, `report/`), as there was but one in
version 0.1; others are in `evaluations/NAME/`, which looks the same inside.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from markupsafe import Markup

from robustcls._locks import locked
from robustcls._validation import InputError
from robustcls.files import read_sealed, write_text
from robustcls.runs import METRICS, Run

DEFAULT = "default"
EVALUATIONS = "evaluations"
#: Where a template has the links to the other pages of its run.
LINKS = Markup("<!-- pages --><!-- end of pages -->")
_LINKS = re.compile(r"<!-- pages -->.*?<!-- end of pages -->", re.DOTALL)
_PAGES = {
    "evaluation.html": "Evaluation",
    "explanations.html": "Explanations",
    "familiarity.html": "Familiarity",
    "anomaly.html": "Detector",
    "images.html": "Images with maps and boxes",
    "certified_accuracy.svg": "Certified accuracy",
}
_LONGEST = 60


def evaluation_folder(folder: Path, name: str) -> Path:
    """Returns where the evaluation of that name is.

    Args:
        folder: of the run.
        name: `default` or another.

    Raises:
        InputError: the name does not do as that of a folder.
    """
    good = 0 < len(name) <= 100 and name == name.strip() and not name.startswith((".", "-"))
    if not good or any(letter in '/\\:*?"<>|' or ord(letter) < 32 for letter in name):
        raise InputError(
            "name must do as the name of a folder, for example strict or epsilon-0.1; received "
            f"{name!r}."
        )
    return folder if name == DEFAULT else folder / EVALUATIONS / name


def choose_evaluation(
    folder: Path, settings: Mapping[str, Any], *, name: str | None = None, resume: bool = False
) -> str:
    """Returns the name of an evaluation, one that overwrites none with other settings.

    Args:
        folder: of the run.
        settings: all that decides the figures, JSON-serializable.
        name: as asked for. When None it is `default`, and where that has other settings what
            differs becomes the name, for example `epsilon-0.1`.
        resume: go on with the evaluation of that name, whatever its settings.

    Raises:
        InputError: the name is none, or that of an evaluation with other settings.
    """
    settings = json.loads(json.dumps(settings))
    others = _other(folder, name or DEFAULT, settings)
    if resume or not others:
        return name or DEFAULT
    if name is None:
        words = _name_of(others)
        # Rounded numbers and folders of one name in other places make one name of two.
        return f"{words}-{_digest(others)}" if _other(folder, words, settings) else words
    kept = _settings(evaluation_folder(folder, name))
    key, value = next(iter(others.items()))
    raise InputError(
        f"name must be free, or of an evaluation with the same settings; {name!r} has {key} "
        f"{kept[key]}, received {value}. Give another --name, or --resume to change this one."
    )


@contextlib.contextmanager
def evaluating(folder: Path, *, shared: bool = False) -> Iterator[None]:
    """Keeps others from measuring into a folder, and from replacing its run, during the block.

    Args:
        folder: of the run, or of one of its evaluations; made if need be.
        shared: others may measure into it too, as shards do (bool, default False).

    Raises:
        InputError: another process trains or measures there.
    """
    with contextlib.ExitStack() as held:
        if Run.is_at(_root(folder)):
            held.enter_context(locked(_root(folder), shared=True))
        folder.mkdir(parents=True, exist_ok=True)
        held.enter_context(locked(folder, shared=shared, file=".evaluation.lock"))
        yield


def link_pages(folder: Path, elsewhere: Path | None = None) -> None:
    """Writes into every page of a run links to its other pages.

    Args:
        folder: of the run, or of one of its evaluations.
        elsewhere: a page about the run that lies outside it: it gets links too, and none leads to
            it (default None).
    """
    pages = _pages_of(_root(folder))
    if elsewhere is not None and elsewhere not in pages:
        _link(elsewhere, {**pages, elsewhere: _PAGES[elsewhere.name]})
    for path in pages:
        if path.suffix == ".html":
            _link(path, pages)


def _link(path: Path, pages: Mapping[Path, str]) -> None:
    text = path.read_text(encoding="utf-8")
    links = _links(path, pages) if len(pages) > 1 else ""
    marked = f"<!-- pages -->{links}<!-- end of pages -->"
    linked = _LINKS.sub(lambda _: marked, text, count=1)
    if linked != text:
        write_text(path, linked)


def _root(folder: Path) -> Path:
    """The folder of the run that an evaluation belongs to."""
    return folder.parent.parent if folder.parent.name == EVALUATIONS else folder


def _pages_of(root: Path) -> dict[Path, str]:
    """The pages of a run with their titles."""
    folders = {"": root}
    if (root / EVALUATIONS).is_dir():
        named = sorted(path for path in (root / EVALUATIONS).iterdir() if path.is_dir())
        folders |= {path.name: path for path in named}
    several = len(folders) > 1
    found = {}
    for name, place in folders.items():
        for file, title in _PAGES.items():
            path = place / "report" / file
            if path.is_file():
                evaluated = file in ("evaluation.html", "anomaly.html", "images.html")
                which = f": {name or DEFAULT}" if several and evaluated else ""
                found[path] = f"{title}{which}"
    return found


def _links(path: Path, pages: Mapping[Path, str]) -> Markup:
    entries = Markup("")
    for other, title in pages.items():
        if other == path:
            entries += Markup('<li aria-current="page">{}</li>').format(title)
        else:
            address = quote(Path(os.path.relpath(other, path.parent)).as_posix())
            entries += Markup('<li><a href="{}">{}</a></li>').format(address, title)
    return Markup('<nav class="pages" aria-label="Pages of this run"><ul>{}</ul></nav>').format(
        entries
    )


def _settings(folder: Path) -> dict[str, Any]:
    """Those of a finished evaluation; empty where there is none."""
    path = folder / METRICS
    if not path.is_file():
        return {}
    settings = read_sealed(path).get("settings", {})
    if not isinstance(settings, dict):
        raise InputError(f"{path} must hold settings; it is damaged. Delete it to measure again.")
    return settings


def _other(folder: Path, name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that differ from those of the evaluation of that name."""
    kept = _settings(evaluation_folder(folder, name))
    return {key: value for key, value in settings.items() if kept.get(key, value) != value}


def _name_of(settings: Mapping[str, Any]) -> str:
    words = "-".join(f"{key}-{_word(value)}" for key, value in settings.items())
    name = re.sub(r"[^\w.+-]+", "-", words).strip("-.")
    if len(name) <= _LONGEST:
        return name
    return f"{name[:_LONGEST]}-{_digest(settings)}"


def _digest(settings: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]


def _word(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return "+".join(_word(each) for each in value)
    return Path(value).name if isinstance(value, str) else str(value).lower()
