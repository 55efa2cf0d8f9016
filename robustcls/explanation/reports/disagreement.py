"""What images of a report can be sorted by: how much models, methods or maps disagree on them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from robustcls.explanation.methods.maps import Maps
from robustcls.explanation.quality.similarity import spearman
from robustcls.explanation.reports.results import ModelResults

#: Each order in words.
WORDS = {
    "answers": "how far apart the models' answers are",
    "models": "how much the models' maps disagree",
    "methods": "how much the methods' maps disagree",
    "attacked": "how much the attack changes the maps",
}

_MOST_PIXELS = 1 << 14


def disagreements(models: Sequence[ModelResults]) -> list[dict[str, np.ndarray]]:
    """Returns what images can be sorted by, float64 [N] by name, for each model.

    Answers are as far apart as their probabilities, the total variation in [0, 1]; maps disagree by
    1 minus Spearman's rank correlation of their relevance, the mean over methods, or pairs of them.
    NaN where maps have too little to compare. Of several models, the largest for any other.

    Args:
        models: of the same images.
    """
    found = []
    for model in models:
        others = [other for other in models if other is not model]
        orders = {}
        if others:
            orders["answers"] = np.max([_apart(model, other) for other in others], axis=0)
            orders["models"] = np.fmax.reduce([_of_models(model, other) for other in others])
        if len(model.maps) > 1:
            pairs = itertools.combinations(model.maps.values(), 2)
            orders["methods"] = _mean([_disagreement(*pair) for pair in pairs])
        if model.adversarial_maps:
            twins = model.adversarial_maps
            orders["attacked"] = _mean([_disagreement(model.maps[m], twins[m]) for m in twins])
        found.append(orders)
    return found


def _apart(one: ModelResults, other: ModelResults) -> np.ndarray:
    if one.probabilities.shape != other.probabilities.shape:
        return (one.predicted != other.predicted).astype(np.float64)
    apart = np.abs(one.probabilities - other.probabilities)
    return apart.max(axis=1) if one.several else apart.sum(axis=1) / 2


def _of_models(one: ModelResults, other: ModelResults) -> np.ndarray:
    common = [method for method in one.maps if method in other.maps]
    return _mean([_disagreement(one.maps[method], other.maps[method]) for method in common])


def _disagreement(one: Maps, other: Maps) -> np.ndarray:
    """Of large maps, of the sums of blocks: what they are sorted by need not be exact."""
    height, width = one.positive.shape[1:]
    factor = max(1, round((height * width / _MOST_PIXELS) ** 0.5))
    rows, columns = (np.arange(0, side, factor) for side in (height, width))
    pair = [
        np.add.reduceat(np.add.reduceat(maps.relevance, rows, axis=1), columns, axis=2)
        for maps in (one, other)
    ]
    return 1 - spearman(*pair)


def _mean(found: Sequence[np.ndarray]) -> np.ndarray:
    """The mean of what can be told, NaN where nothing can."""
    values = np.stack(found)
    told = np.isfinite(values)
    count = told.sum(axis=0)
    total = np.where(told, values, 0).sum(axis=0)
    return np.divide(total, count, np.full(values.shape[1], np.nan), where=count > 0)
