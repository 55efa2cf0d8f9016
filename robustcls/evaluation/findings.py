"""What must be read before the figures of an evaluation: broken models, changed images."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from robustcls.training.findings import constant_answer

#: Classes that a sentence names.
_NAMED = 5


def findings(metrics: Mapping[str, Any], notes: Iterable[str] = ()) -> list[str]:
    """Returns sentences that stand above all figures; none when nothing is wrong.

    Args:
        metrics: what `evaluate_models` has measured so far.
        notes: what is known of the images and of the training.
    """
    found = list(notes)
    broken = [model for model in metrics["models"] if is_broken(metrics, model)]
    for model in metrics["models"]:
        found += [words for words in (_constant(metrics, model), _missed(metrics, model)) if words]
    reference, *others = metrics["models"]
    if others and reference in broken:
        found.append(
            f"{reference}, the reference, is broken: what {' or '.join(others)} gains over it "
            "says nothing of robustness."
        )
    else:
        found += [_behind(metrics, other) for other in others if _is_behind(metrics, other)]
    return found


def is_broken(metrics: Mapping[str, Any], model: str) -> bool:
    """Whether a model does not beat one constant answer on the clean test images."""
    return _constant(metrics, model) is not None


def _confusion(metrics: Mapping[str, Any], model: str) -> np.ndarray:
    return np.asarray(metrics["confusion"][model])


def _constant(metrics: Mapping[str, Any], model: str) -> str | None:
    counts = _confusion(metrics, model)
    labels = np.repeat(np.arange(len(counts)), counts.sum(axis=1))
    right = int(np.trace(counts))
    return constant_answer(model, right, labels, metrics["class_names"], "test images")


def _missed(metrics: Mapping[str, Any], model: str) -> str | None:
    counts, names = _confusion(metrics, model), metrics["class_names"]
    sizes = counts.sum(axis=1)
    missed = np.flatnonzero((sizes > 0) & (counts.diagonal() == 0))
    if not len(missed):
        return None
    named = ", ".join(f"{names[at]} ({sizes[at]})" for at in missed[:_NAMED])
    more = f" and {len(missed) - _NAMED} classes more" if len(missed) > _NAMED else ""
    return f"{model} recognizes none of the test images of {named}{more}."


def _is_behind(metrics: Mapping[str, Any], other: str) -> bool:
    """Whether the reference is clearly worse on clean images than a model trained against it."""
    reference = metrics["models"][0]
    first, second = (metrics["intervals"][model]["clean"] for model in (reference, other))
    return first["high"] < metrics[other]["clean"] and second["low"] > metrics[reference]["clean"]


def _behind(metrics: Mapping[str, Any], other: str) -> str:
    reference = metrics["models"][0]
    return (
        f"{reference}, the reference, classifies fewer clean images right than {other} "
        f"({100 * metrics[reference]['clean']:.1f} against {100 * metrics[other]['clean']:.1f} %): "
        "it may be badly trained, which would flatter what is compared with it."
    )
