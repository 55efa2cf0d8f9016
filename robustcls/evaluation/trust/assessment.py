"""Whether to believe an attack: fifteen checks of a model and of what attacks make of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any

import numpy as np

from robustcls._notebook import Brief, Briefly
from robustcls._settings import Choice, Epsilon, NonNegativeInt, PositiveInt, checked
from robustcls._validation import check_images, check_labels
from robustcls.attacks.norms import NORMS
from robustcls.classifiers.adapters import classifier_of
from robustcls.classifiers.ranges import InputRange, Preprocess, require_fitting_range
from robustcls.evaluation.prediction import subset
from robustcls.evaluation.trust.checks import judge
from robustcls.evaluation.trust.measurements import EvidenceCollector
from robustcls.evaluation.trust.verdict import Verdict

__all__ = ["Check", "Verdict", "believable", "check", "summary"]

#: What `Verdict` was called in 0.1.
Check = Verdict


@checked
def check(
    model: Any,
    images: np.ndarray,
    labels: np.ndarray,
    *,
    epsilon: Epsilon = 8 / 255,
    norm: Annotated[str, Choice(NORMS)] = "inf",
    num_images: PositiveInt = 256,
    attack: Annotated[str, Choice(("pgd", "apgd"))] = "pgd",
    steps: PositiveInt = 20,
    queries: PositiveInt = 500,
    reference_models: Mapping[str, Any] | None = None,
    seed: NonNegativeInt = 0,
    batch_size: PositiveInt = 128,
    preprocess: Preprocess | None = None,
    input_range: InputRange | None = None,
    output: str | int | None = None,
    progress: bool = False,
) -> Verdicts:
    """Says whether robust accuracies measured on a model can be believed.

    A model can look robust because attacks fail on it: its outputs saturate, its gradients are
    masked, it was trained against one attack alone. The checks look for what such models have
    in common, with PGD, APGD, Square and examples from elsewhere.

    1. The outputs are logits, not probabilities.
    2. Five calls differ by at most 1e-4 of an image's largest output.
    3. The gradient of cross-entropy is zero for at most 1 % of the images, here and through the
       model's own softmax, and NaN or infinite for none.
    4. PGD leaves no more accuracy than FGSM; and where PGD costs more than 10 points, FGSM costs
       at least a fifth of that.
    5. Accuracy after an FGSM step is not above clean accuracy.
    6. Accuracy under PGD rises by at most half a point from one epsilon to a larger one.
    7. Accuracy is at most chance with 100 steps at epsilon 0.5 (norm "2": 0.5 √values).
    8. Doubling the steps changes accuracy by at most a point. Where APGD's figures are judged,
       PGD with doubled steps breaks at most a point more.
    9. Five random starts instead of one change it by at most a point; for APGD, as in 8.
    10. Square breaks at most 0.2 % of the images that FGSM, PGD and APGD did not break.
    11. Examples made on other models, or on a noisy copy of this one, do no better than PGD.
    12. Twenty random points of the ball do no better than PGD.
    13. The model misclassifies every example that an attack counted as a success.
    14. Gradients at an image and at a random point of its ball have a mean cosine of at least
        0.3; less is a warning.
    15. No example leaves the ball or [0, 1], or is not a number.

    Costs at most 500 gradients and `queries` + 30 predictions for each image; images that fall
    cost much less. Check 2 looks at 64 images.

    Sources: Athalye et al., "Obfuscated gradients give a false sense of security", 2018, section
    3.1; Carlini et al., "On evaluating adversarial robustness", 2019, section 5; Wong et al.,
    "Fast is better than free", 2020 (4 and 5); Andriushchenko and Flammarion, "Understanding and
    improving fast adversarial training", 2020 (14).

    Args:
        model: what attacks take: a Keras classifier, ending in logits or softmax; a `.keras`
            file; a SavedModel; or what `adapt` returned. Not a function without gradients.
        images: float32 [N, H, W, C] in [0, 1].
        labels: int [N].
        epsilon: radius of the ball the robust accuracies are for (float in (0, 1], default 8/255).
        norm: of the ball ("inf" or "2", default "inf").
        num_images: check on a random subset of at most that many. With few images a point is a
            fraction of an image; 200 or more say something (int >= 1, default 256).
        attack: whose figures are to be believed: "pgd", or "apgd", which stands for AutoAttack and
            the fast suite too, since they do no less ("pgd" or "apgd", default "pgd").
        steps: of PGD (int >= 1, default 20).
        queries: of Square (int >= 1, default 500).
        reference_models: other models for the same images by name, for check 11; two trainings of
            one architecture serve well. Without any, examples are made on this model smoothed by
            random noise (default None).
        seed: seed of everything random (int >= 0, default 0).
        batch_size: images the model sees at a time (int >= 1, default 128).
        preprocess: what the model wants done to images in [0, 1] first; epsilon stays in units of
            [0, 1] (default None).
        input_range: what the model wants 0 and 1 to be, for example (0, 255) or (-1, 1), instead of
            `preprocess` (default None).
        output: name or number of the output to judge, of a model with several (str, int or None,
            default None).
        progress: show a bar (bool, default False).

    Returns:
        Fifteen verdicts in this order. Where fewer than ten images are classified
        right, checks 4 to 13 are skipped, and neither pass nor fail.

    Raises:
        InputError: images, labels or model do not fit together, or a setting is unusable.
    """
    images = check_images(images)
    labels = check_labels(labels, len(images))
    chosen = subset(len(images), num_images, seed)
    classifier = classifier_of(model, preprocess=preprocess, input_range=input_range, output=output)
    collector = EvidenceCollector(
        classifier,
        images[chosen],
        labels[chosen],
        epsilon=epsilon,
        norm=norm,
        attack=attack,
        steps=steps,
        queries=queries,
        reference_models=reference_models or {},
        seed=seed,
        batch_size=batch_size,
    )
    require_fitting_range(classifier, images[chosen], labels[chosen])
    return Verdicts(judge(collector.run(progress=progress)))


class Verdicts(Briefly, list[Verdict]):
    """What `check` returns: a list of verdicts that shows its summary."""

    def brief(self) -> Brief:
        rows = [[str(v.number), v.name, v.status, v.evidence] for v in self]
        return Brief(summary(self), ("", "check", "verdict", "evidence"), rows)


def believable(checks: Iterable[Verdict]) -> bool:
    """Whether every check was made and none failed; a warning does not count against it.

    Args:
        checks: what `check` returned.
    """
    return all(check.status in ("pass", "warning") for check in checks)


def summary(checks: Sequence[Verdict]) -> str:
    """Returns a line such as `13 of 15 checks passed, failed: 4, 5`.

    Args:
        checks: what `check` returned.
    """
    passed = sum(check.passed for check in checks)
    parts = [f"{passed} of {len(checks)} checks passed"]
    for status, word in (("fail", "failed"), ("warning", "warnings"), ("skipped", "skipped")):
        numbers = [str(check.number) for check in checks if check.status == status]
        if numbers:
            parts.append(f"{word}: {', '.join(numbers)}")
    return ", ".join(parts)
