"""MuFidelity and infidelity: whether a map foretells what the logit loses."""

from __future__ import annotations

import numpy as np
from scipy.stats import rankdata

from robustcls.explanation.batching import in_batches
from robustcls.explanation.methods.masking import scores_behind_masks
from robustcls.explanation.quality.measures.trial import Trial

# As Xplique has them: cells of a grid, a fifth of which turn black; how often.
_CELLS = 9
_GONE = 0.2
SUBSETS = 64
_MOST_VALUES = 1 << 23


def mu_fidelity(trial: Trial) -> np.ndarray:
    """Rank correlation of what a map adds up to in random cells with what their loss costs.

    Source: Bhatt et al., "Evaluating and aggregating feature-based model explanations", 2020,
    definition 3, with ranks as in Xplique: `SUBSETS` random fifths of a 9 x 9 grid turn black.
    NaN where the logit does not change, or the map has one value.
    """
    masks, lost = _subsets(trial)
    return rank_correlation(sums_of(trial.maps.relevance, masks), lost)


def infidelity(trial: Trial) -> np.ndarray:
    """How much of what the logit loses a map does not foretell: 0 all of it is, 1 nothing.

    Source: Yeh et al., "On the (in)fidelity and sensitivity of explanations", 2019, definition
    2.1, with the best scale for each map (section 2.2 and Appendix), over the mean square of the
    losses; the perturbations are those of `mu_fidelity`. Gradients foretell by what pixels lose,
    other maps by their sum. NaN where the logit does not change.
    """
    masks, lost = _subsets(trial)
    maps = trial.maps
    if maps.attribution or maps.negative is None:
        return unforetold(sums_of(maps.relevance, masks), lost)
    return unforetold(sums_of(maps.signed * trial.images.mean(-1), masks), lost)


def sums_of(maps: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Returns what maps add up to where masks take pixels away, float64 [N, K].

    Args:
        maps: float [N, H, W].
        masks: float or bool [K, H, W], 0 where a pixel is taken away.
    """
    flat = maps.reshape(len(maps), -1).astype(np.float64)
    some = max(1, _MOST_VALUES // flat.shape[1])  # all masks of a large image fill memory
    parts = (masks[at : at + some] for at in range(0, len(masks), some))
    gone = (1 - part.reshape(len(part), -1).astype(np.float64) for part in parts)
    return np.concatenate([flat @ part.T for part in gone], axis=1)


def rank_correlation(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Returns Spearman's correlation of each pair of rows, float64 [N]; NaN for a constant row.

    Args:
        first: float [N, K].
        second: float [N, K].
    """
    one, other = (
        rankdata(values, axis=1) - (values.shape[1] + 1) / 2 for values in (first, second)
    )
    norms = np.sqrt((one**2).sum(axis=1) * (other**2).sum(axis=1))
    found = (one * other).sum(axis=1)
    return np.divide(found, norms, np.full(len(found), np.nan), where=norms > 0)


def unforetold(sums: np.ndarray, lost: np.ndarray) -> np.ndarray:
    """Returns the mean square of what the best multiple of `sums` leaves of `lost`, as a share.

    Args:
        sums: float [N, K], what a map adds up to.
        lost: float [N, K], what the logit loses.
    """
    squares = (sums**2).sum(axis=1)
    scale = np.divide((sums * lost).sum(axis=1), squares, np.zeros(len(sums)), where=squares > 0)
    left = ((scale[:, None] * sums - lost) ** 2).mean(axis=1)
    whole = (lost**2).mean(axis=1)
    return np.divide(left, whole, np.full(len(left), np.nan), where=whole > 0)


def _subsets(trial: Trial) -> tuple[np.ndarray, np.ndarray]:
    """Masks bool [K, H, W], and what the logit loses behind each, float64 [N, K]."""
    return trial.once("subsets", lambda: _find_subsets(trial))


def _find_subsets(trial: Trial) -> tuple[np.ndarray, np.ndarray]:
    height, width = trial.images.shape[1:3]
    rows, columns = (np.arange(side) * min(_CELLS, side) // side for side in (height, width))
    generator = np.random.default_rng(trial.seed)
    stays = generator.random((SUBSETS, rows[-1] + 1, columns[-1] + 1)) >= _GONE
    masks = stays[:, rows][:, :, columns]

    def scores(images: np.ndarray, classes: np.ndarray) -> np.ndarray:
        found = scores_behind_masks(
            trial.explainer,
            images,
            classes,
            SUBSETS,
            lambda first, last: masks[first:last].astype(np.float32),
        )
        return np.concatenate([scores for _, scores in found], axis=1)

    size = min(trial.explainer.batch_size, len(trial.images))
    behind = in_batches(scores, trial.images, trial.classes, batch_size=size)
    whole = trial.explainer.scores(trial.images)
    whole = np.take_along_axis(whole, trial.classes[:, None], 1)
    return masks, (whole - behind).astype(np.float64)
