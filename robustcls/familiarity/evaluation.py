"""`evaluate`: known images against others, far and near."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from robustcls._settings import PositiveInt, checked
from robustcls._validation import InputError, check_images, check_labels
from robustcls.attacks.base import Attack
from robustcls.data.pipeline import arrays_of
from robustcls.data.splits import Split
from robustcls.familiarity.familiarity import Familiarity
from robustcls.familiarity.measures import Interval, auroc, false_positives, share
from robustcls.familiarity.results import FamiliarityReport, SetResult

KNOWN = "known"
Images = np.ndarray | Split


@checked
def evaluate(
    fitted: Familiarity | Sequence[Familiarity],
    test: Split | tuple[np.ndarray, np.ndarray],
    *,
    far: Mapping[str, Images] | None = None,
    near: Mapping[str, Images] | None = None,
    attack: Attack | None = None,
    attack_limit: PositiveInt = 200,
    batch_size: PositiveInt = 128,
) -> FamiliarityReport:
    """Measures how well familiarity tells known images from others.

    Args:
        fitted: what `fit` returned, or several for the same model; the first is compared with the
            others.
        test: known images that nothing was fitted or chosen on, with labels: a split, or (images
            float32 [N, H, W, C] in [0, 1], labels int [N]).
        far: by name, unfamiliar images of another kind: float32 [N, H, W, C] in [0, 1], or splits
            (default None).
        near: the same of classes like those of the training (default None).
        attack: on the score, of the first of `fitted`: unfamiliar images are made to pass, known
            ones to be refused (Attack or None, default None).
        attack_limit: images of each set that are attacked, the first ones (int >= 1, default 200).
        batch_size: images the model sees at a time (int >= 1, default 128).

    Raises:
        InputError: there is no set, or one does not fit the model.
    """
    several = [fitted] if isinstance(fitted, Familiarity) else list(fitted)
    sets = {("far", name): images for name, images in (far or {}).items()}
    sets |= {("near", name): images for name, images in (near or {}).items()}
    if not several or not sets:
        missing = "fitted" if not several else "far or near"
        raise InputError(f"{missing} must be one or more; received none.")
    names = [one.method.registry_name for one in several]
    if len(set(names)) < len(names):
        raise InputError(f"fitted must be of different methods; received {', '.join(names)}.")
    images, labels = arrays_of(test)
    labels = check_labels(labels, len(images))
    first = several[0]
    own = images if images.dtype == np.uint8 else check_images(images)
    features = first.features(_as_given(own), batch_size=batch_size)
    right = features[1].argmax(axis=1) == labels
    known = {one.method.registry_name: one.score_features(*features) for one in several}
    scores = {name: {KNOWN: values} for name, values in known.items()}
    results: dict[str, list[SetResult]] = {name: [] for name in names}
    for (kind, title), others in sets.items():
        found = first.features(others, batch_size=batch_size)
        for one in several:
            name = one.method.registry_name
            values = scores[name][f"{kind} {title}"] = one.score_features(*found)
            attacked_share = None
            if attack is not None and one is first:
                attacked_share = _refused(one, others, attack, attack_limit, batch_size)
            results[name].append(
                SetResult(
                    method=name,
                    name=title,
                    kind=kind,
                    count=len(values),
                    auroc=auroc(known[name], values),
                    fpr95=false_positives(known[name], values),
                    refused=share(int((values < one.threshold).sum()), len(values)),
                    attacked=attacked_share,
                )
            )
    alarms, kept = {}, {}
    for one in several:
        name = one.method.registry_name
        passing = known[name] >= one.threshold
        alarms[name] = share(int((~passing).sum()), len(passing))
        kept[name] = float(right[passing].mean()) if passing.any() else None
    attacked = {}
    if attack is not None:
        under = _refused(first, _as_given(own), attack, attack_limit, batch_size, known=True)
        attacked = {names[0]: under}
    return FamiliarityReport(
        results=tuple(result for name in names for result in results[name]),
        known=len(images),
        asked=first.false_alarm_rate,
        false_alarms=alarms,
        attacked_alarms=attacked,
        accuracy=float(right.mean()),
        accuracy_kept=kept,
        attack=None if attack is None else f"{attack.name}, epsilon {attack.epsilon:.4g}",
        scores=scores,
    )


def _as_given(images: np.ndarray) -> Images:
    if images.dtype != np.uint8:
        return images
    count = len(images)
    return Split(images, np.zeros(count, np.int64), np.arange(count).astype(str))


def _refused(
    fitted: Familiarity,
    images: Images,
    attack: Attack,
    limit: int,
    batch_size: int,
    known: bool = False,
) -> Interval:
    """The share of images below the threshold when an attack moves them; up to it or below it."""
    few = images.take(slice(limit)).float_images() if isinstance(images, Split) else images[:limit]
    labels = np.full(len(few), int(known))
    result = attack(fitted.as_classifier(), few, labels, batch_size=batch_size)
    return share(int((result.success if known else ~result.success).sum()), len(few))
