"""The one-class protocol: what a detector learns from, is tested on and is measured by."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from anomaly.detection.detector import OneClassDetector
from anomaly.detection.fitting import is_among
from anomaly.detection.thresholds import hold_out, smallest_sample
from anomaly.experiments.config import DetectorConfig
from anomaly.localization.boxes import find_boxes, smooth
from anomaly.localization.measures import aupro, box_overlap, mask_overlap, pixel_auroc
from anomaly.video.frame_scores import frame_figures
from robustcls._notebook import Brief, Briefly
from robustcls._progress import tqdm
from robustcls._validation import InputError, check_choice, check_labels, check_number
from robustcls.data.one_class.films import films_of
from robustcls.data.one_class.layouts import folder_of
from robustcls.data.one_class.masks import read_masks
from robustcls.data.splits import Split, Splits
from robustcls.evaluation.intervals import measurement

# Images whose floats are in memory at once, and those whose maps are made from them.
_CHUNK = 4096
_MAPS_CHUNK = 512


@dataclass(frozen=True, eq=False, repr=False)
class OneClassSplits(Briefly):
    """A labelled set seen with one class as normal; labels are 0 normal, 1 anomaly.

    Attributes:
        normal_class: its class id.
        train: normal training images, to learn from.
        validation: other normal images, to take the threshold from.
        test: the whole test split.
    """

    normal_class: int
    train: Split
    validation: Split
    test: Split

    def brief(self) -> Brief:
        anomalies = int((self.test.labels == 1).sum())
        return Brief(
            f"{len(self.train):,} normal images to learn from, {len(self.validation):,} for the "
            f"threshold; {len(self.test):,} to test on, {anomalies:,} of them anomalies"
        )


def one_class_splits(
    splits: Splits,
    normal_class: int | str | None = None,
    *,
    false_alarm_rate: float = 0.05,
    seed: int = 0,
) -> OneClassSplits:
    """Makes one class normal and all others anomalies.

    Nothing but normal images gets into training and validation. Validation images are those of
    the validation split; where they are too few for the threshold, training and validation
    images are cut anew.

    Args:
        splits: a labelled set.
        normal_class: a class id, or a class name; the only class of the training images when None
            (int, str or None, default None).
        false_alarm_rate: decides how many validation images there must be (float, default 0.05).
        seed: of the new cut (int, default 0).

    Raises:
        InputError: an unknown class, none where there are several, too few normal images, or a
            test split without normal images or, in a set of several classes, without anomalies.
    """
    if normal_class is None:
        present = [splits.class_names[label] for label in np.unique(splits.train.labels)]
        if len(present) > 1:
            raise InputError(
                f"normal_class must be one of {', '.join(present)}; received none of them."
            )
        normal_class = present[0]
    if isinstance(normal_class, str):
        check_choice("normal_class", normal_class, splits.class_names)
        normal_class = splits.class_names.index(normal_class)
    last = splits.num_classes - 1
    check_number("normal_class", normal_class, minimum=0, maximum=last, integer=True)
    train, validation = (
        relabelled(part.take(np.flatnonzero(part.labels == normal_class)), normal_class)
        for part in (splits.train, splits.validation)
    )
    if len(validation) < smallest_sample(false_alarm_rate):
        both = Split(
            np.concatenate([train.images, validation.images]),
            np.concatenate([train.labels, validation.labels]),
            np.concatenate([train.ids, validation.ids]),
        )
        to_learn, held_out = hold_out(np.arange(len(both)), false_alarm_rate, seed)
        train, validation = both.take(to_learn), both.take(held_out)
    test = relabelled(splits.test, normal_class)
    if splits.num_classes > 1:
        _check_both(test.labels, "The test split")
    return OneClassSplits(normal_class, train, validation, test)


def parts_of(splits: Splits, config: DetectorConfig) -> OneClassSplits:
    """Returns what a detector of these settings learns from and is tested on."""
    return one_class_splits(
        splits,
        config.normal_class,
        false_alarm_rate=config.false_alarm_rate,
        seed=config.seed,
    )


def known_anomalies(splits: Splits, parts: OneClassSplits, share: float, seed: int) -> np.ndarray:
    """Draws labelled anomalies for the methods that learn from some.

    They are training images of one other class, so that most anomalies of the test split are of
    kinds never seen, as Ruff et al., 2020, section 4.3, have it. Those that the set also labels
    normal are left out.

    Args:
        splits: the labelled set.
        parts: what `one_class_splits` made of it.
        share: how many, as a share of the normal training images, in [0, 1].
        seed: of the class and the draw.

    Returns:
        float32 [K, H, W, C] in [0, 1], K ≥ 1.

    Raises:
        InputError: a share out of range, or no training image of another class.
    """
    check_number("labelled_anomalies", share, above=0, maximum=1)
    others = np.setdiff1d(splits.train.labels, [parts.normal_class])
    if not len(others):
        raise InputError("data must have training images of a second class; received one class.")
    generator = np.random.default_rng(seed)
    members = np.flatnonzero(splits.train.labels == generator.choice(others))
    normal = np.concatenate([parts.train.images, parts.validation.images])
    members = members[~is_among(splits.train.images[members], normal)]
    count = min(len(members), max(1, round(share * len(parts.train))))
    chosen = np.sort(generator.choice(members, count, replace=False))
    return splits.train.take(chosen).float_images()


def score_split(
    detector: OneClassDetector, split: Split, batch_size: int = 256, progress: bool = False
) -> np.ndarray:
    """Returns the scores of a split that may be larger than memory, float32 [N]."""
    starts = range(0, len(split), _CHUNK)
    return np.concatenate(
        [
            detector.score(
                split.take(slice(start, start + _CHUNK)).float_images(), batch_size=batch_size
            )
            for start in tqdm(starts, "Scoring", disable=not progress, leave=False)
        ]
    )


def evaluate_scores(
    scores: Any, labels: Any, *, threshold: float, false_alarm_rate: float
) -> dict[str, Any]:
    """Measures how well scores tell anomalies from normal images that were never seen.

    Args:
        scores: float [N], higher = more anomalous.
        labels: int [N], 0 normal, 1 anomaly.
        threshold: scores above it are alarms.
        false_alarm_rate: the rate the threshold was made for.

    Returns:
        `auroc`, `aupr` (anomalies positive; chance is `anomaly_share`) and `f1` at the threshold,
        where there are anomalies;
        `false_alarm_rate` (`asked`, `got`) and `detection_rate` (`got`), the shares of normal
        images and of anomalies above the threshold, each with the `count` of images and the 95 %
        Clopper-Pearson interval `low`, `high`.

    Raises:
        InputError: scores that are not finite numbers [N], or no normal image.
    """
    scores = np.asarray(scores)
    labels = check_labels(labels, len(scores), 2)
    if scores.ndim != 1 or not np.isfinite(scores).all():
        raise InputError(f"scores must be finite numbers [N]; received shape {scores.shape}.")
    if labels.all():
        raise InputError(f"labels must hold normal images, 0; received {len(labels)} anomalies.")
    alarms = scores > np.float32(threshold)
    rates = {}
    for name, kind in (("false_alarm_rate", 0), ("detection_rate", 1)):
        count = int((labels == kind).sum())
        if not count:
            continue
        measured = measurement(name, int(alarms[labels == kind].sum()), count)
        rates[name] = {
            "got": measured.accuracy,
            "low": measured.low,
            "high": measured.high,
            "count": count,
        }
    rates["false_alarm_rate"] = {"asked": float(false_alarm_rate), **rates["false_alarm_rate"]}
    if not labels.any():
        return {"threshold": float(threshold), **rates}
    return {
        "auroc": float(roc_auc_score(labels, scores)),
        "aupr": float(average_precision_score(labels, scores)),
        "anomaly_share": float(labels.mean()),
        "f1": float(f1_score(labels, alarms)),
        "threshold": float(threshold),
        **rates,
    }


def evaluate_maps(
    detector: OneClassDetector, test: Split, data: str, batch_size: int = 256
) -> dict[str, Any]:
    """Measures maps over the test images whose masks are in the folder.

    Normal images count as such everywhere; anomalies without a mask are left out.

    Args:
        detector: fitted.
        test: labels 0 normal, 1 anomaly.
        data: what the images were loaded from.
        batch_size: images a forward pass (int, default 256).

    Returns:
        `pixel_auroc`, `aupro` and `images_with_masks`; at the detector's own pixel threshold
        `mask_iou` and `mask_f1` of the pixels, `box_iou` and `box_f1` of the boxes. Nothing where
        the detector makes no maps or there are no masks.
    """
    root = folder_of(data) or Path(data).expanduser()
    if not (detector.makes_maps and root.is_dir()):
        return {}
    masks, known = read_masks(root, test.ids, detector.image_shape[:2])
    chosen = np.flatnonzero(known | (test.labels == 0))
    if not masks[chosen].any():
        return {}
    starts = range(0, len(chosen), _MAPS_CHUNK)
    parts = (test.take(chosen[start : start + _MAPS_CHUNK]).float_images() for start in starts)
    maps = smooth(
        np.concatenate(
            [detector.run_batches("anomaly_map_batch", part, batch_size) for part in parts]
        )
    )
    masks = masks[chosen]
    threshold = getattr(detector, detector.threshold_names[-1])
    mask_iou, mask_f1 = mask_overlap(maps, masks, threshold)
    best_iou, box_f1 = box_overlap(find_boxes(maps, threshold), masks)
    return {
        "pixel_auroc": pixel_auroc(maps, masks),
        "aupro": aupro(maps, masks),
        "mask_iou": mask_iou,
        "mask_f1": mask_f1,
        "box_iou": best_iou,
        "box_f1": box_f1,
        "images_with_masks": int(known.sum()),
    }


def evaluate_films(scores: np.ndarray, test: Split) -> dict[str, Any]:
    """Returns the figures of frames of films, as `frame_figures`; nothing for other images.

    Args:
        scores: float [N].
        test: labels 0 normal, 1 anomaly.
    """
    films = films_of(test.ids)
    return {} if films is None else frame_figures(scores, test.labels, films)


def relabelled(split: Split, normal_class: int) -> Split:
    """Returns a split with labels 0 for the normal class and 1 for anomalies.

    Args:
        split: labels are class ids.
        normal_class: the id of the normal one.
    """
    return Split(split.images, (split.labels != normal_class).astype(np.int64), split.ids)


def _check_both(labels: np.ndarray, what: str) -> None:
    anomalies = int(labels.sum())
    if anomalies in (0, len(labels)):
        raise InputError(
            f"{what} must hold normal images and anomalies; received {len(labels) - anomalies} "
            f"normal images and {anomalies} anomalies."
        )
