"""The fifteen checks: each a function from the figures to a verdict.

The first three and the fourteenth judge the model's outputs and gradients, the others what
attacks make of it. Shares and accuracies are in [0, 1]; a point is 0.01.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from robustcls.evaluation.trust.evidence import (
    LARGE_STEPS,
    RANDOM_DRAWS,
    REPEATS,
    RESTARTS,
    Evidence,
)
from robustcls.evaluation.trust.verdict import Verdict

REPEATABLE = 1e-4
ZERO_GRADIENTS = 0.01
POINT = 0.01
RISE = 0.005
BLACK_BOX = 0.002
ALIGNED = 0.3
# Adversarially trained models keep 20 to 40 % of PGD's damage under one step, catastrophically
# overfitted ones none.
BLIND_STEP = 0.2
BLIND_DAMAGE = 0.1
ENOUGH_RIGHT = 10
# A difference of exactly a point is none of more than a point, whatever floats make of it.
_ROUNDING = 1e-9


def _outputs_are_logits(evidence: Evidence) -> Verdict:
    kind = "probabilities: each row sums to 1" if evidence.returns_probabilities else "logits"
    return Verdict(
        "outputs are logits",
        not evidence.returns_probabilities,
        f"the outputs are {kind}",
        "Softmax rounds to 0 and 1, and gradients vanish. Attacks here leave a final softmax "
        "out where they can; others do not. Return logits and add the softmax when serving.",
        1,
    )


def _deterministic(evidence: Evidence) -> Verdict:
    return Verdict(
        "same answer each time",
        evidence.spread <= REPEATABLE,
        f"{REPEATS} calls differ by up to {evidence.spread:.2g} of the largest output",
        "Randomness hides the gradient and turns failures into luck. Switch dropout and noise "
        "off at inference, or attack the average over many draws.",
        2,
    )


def _gradients_usable(evidence: Evidence) -> Verdict:
    zero = max(evidence.zero, evidence.zero_through_outputs)
    where = " through the model's own softmax" if zero > evidence.zero else ""
    return Verdict(
        "gradients usable",
        zero <= ZERO_GRADIENTS and evidence.broken == 0,
        f"zero for {_percent(zero)} of the images{where}, NaN or infinite for "
        f"{_percent(evidence.broken)}",
        "Without a gradient the gradient attacks stay where they are, and their figures say "
        "nothing. Look for saturated outputs, rounding and steps; rely on Square.",
        3,
    )


def _iterative_beats_single_step(evidence: Evidence) -> Verdict:
    clean, pgd = float(evidence.clean.mean()), float(evidence.pgd.mean())
    # An attack is not credited with images that it turns right.
    fgsm = float((evidence.fgsm & evidence.clean).mean())
    damage = clean - pgd
    blind = damage > BLIND_DAMAGE and clean - evidence.fgsm.mean() < BLIND_STEP * damage
    return Verdict(
        "iterative beats single step",
        pgd <= fgsm and not blind,
        f"FGSM leaves {_percent(fgsm)}, PGD with {evidence.steps} steps {_percent(pgd)} of "
        f"{_percent(clean)}" + (": one step is blind to the damage" if blind else ""),
        "Many steps that do worse than one mean masked gradients. One step that does next to "
        "nothing where many do much means training overfitted to that step (catastrophic "
        "overfitting): quote PGD or AutoAttack, never FGSM, and train with a random start.",
        4,
    )


def _fgsm_not_above_clean(evidence: Evidence) -> Verdict:
    fgsm, clean = float(evidence.fgsm.mean()), float(evidence.clean.mean())
    return Verdict(
        "FGSM not above clean",
        fgsm <= clean,
        f"{_percent(fgsm)} of the images after an FGSM step, {_percent(clean)} before",
        "The model recognizes the step itself: catastrophic overfitting. Train with a random "
        "start, more steps or TRADES.",
        5,
    )


def _monotone(evidence: Evidence) -> Verdict:
    accuracies = [accuracy for _, accuracy in evidence.over_epsilon]
    rise = float(np.diff(accuracies).max(initial=0.0))
    points = ", ".join(
        f"{_percent(accuracy)} at {epsilon:.3g}" for epsilon, accuracy in evidence.over_epsilon
    )
    return Verdict(
        "accuracy falls as epsilon grows",
        rise <= RISE + _ROUNDING,
        points,
        "A larger ball holds every smaller one, so an attack that does worse there got lost. "
        "Use more steps, a smaller step size and restarts.",
        6,
    )


def _large_epsilon(evidence: Evidence) -> Verdict:
    chance = 1 / evidence.num_classes
    return Verdict(
        "nothing survives a large epsilon",
        evidence.large_accuracy <= chance + _ROUNDING,
        f"{_percent(evidence.large_accuracy)} at epsilon {evidence.large_epsilon:.3g} with "
        f"{LARGE_STEPS} steps; chance is {_percent(chance)}",
        "There every image can be made a uniform gray, so what survives survives because the "
        "attack is blind: masked gradients.",
        7,
    )


def _converged(evidence: Evidence) -> Verdict:
    steps = 2 * evidence.steps
    return _stable(
        "steps suffice",
        evidence,
        evidence.doubled,
        {"pgd": f"{steps} instead of {evidence.steps} steps", "apgd": f"PGD of {steps} steps"},
        "Robust accuracy would fall further with more steps: raise --steps, or use AutoAttack.",
        8,
    )


def _restarts(evidence: Evidence) -> Verdict:
    starts = f"{RESTARTS} random starts"
    return _stable(
        "restarts suffice",
        evidence,
        evidence.restarted,
        {"pgd": f"{starts} instead of 1", "apgd": f"PGD from {starts}"},
        "Robust accuracy would fall further with more starts: raise --restarts, or use AutoAttack.",
        9,
    )


def _black_box_not_stronger(evidence: Evidence) -> Verdict:
    broken = float((evidence.white_box & ~evidence.square).mean())
    return Verdict(
        "black box not stronger",
        broken <= BLACK_BOX + _ROUNDING,
        f"Square broke {_percent(broken)} of the images, which no attack with gradients had",
        "Attacks that see less should do less. The gradients mislead: quote Square or "
        "AutoAttack, and look for rounding, clipping or saturation in the model.",
        10,
    )


def _transfer_weaker(evidence: Evidence) -> Verdict:
    return _weaker(
        "transferred examples weaker",
        evidence.transferred,
        evidence.pgd,
        evidence.source,
        "Examples made elsewhere should do less than those made on the model itself. Its "
        "gradients mislead: quote AutoAttack.",
        11,
        POINT,
    )


def _random_weaker(evidence: Evidence) -> Verdict:
    return _weaker(
        "random noise weaker",
        evidence.drawn,
        evidence.pgd,
        f"{RANDOM_DRAWS} random points of the ball",
        "An attack that chance beats is not looking for anything: gradients are missing or wrong.",
        12,
        0.0,
    )


def _no_silent_success(evidence: Evidence) -> Verdict:
    return Verdict(
        "successes are real",
        evidence.silent == 0,
        f"{evidence.silent} of {evidence.attacked} examples that fooled the model in the attack "
        "do not when it sees them again",
        "The example that fooled the model must be the one that is returned. Look for answers "
        "that depend on the batch or on chance.",
        13,
    )


def _gradients_aligned(evidence: Evidence) -> Verdict:
    return Verdict(
        "gradients aligned",
        evidence.alignment >= ALIGNED,
        f"mean cosine {evidence.alignment:.2f} between the gradients at an image and at a random "
        "point of its ball",
        "The loss is rough at this scale, so single steps say little; common without "
        "adversarial training. Use many steps and restarts.",
        14,
        "warning",
    )


def _legal(evidence: Evidence) -> Verdict:
    return Verdict(
        "examples legal",
        evidence.outside == 0,
        f"{evidence.outside} examples leave the ball or [0, 1]; the largest change is "
        f"{evidence.longest:.6f} epsilon",
        "Figures from images outside the ball count for nothing: please report this as a bug.",
        15,
    )


CHECKS: tuple[Callable[[Evidence], Verdict], ...] = (
    _outputs_are_logits,
    _deterministic,
    _gradients_usable,
    _iterative_beats_single_step,
    _fgsm_not_above_clean,
    _monotone,
    _large_epsilon,
    _converged,
    _restarts,
    _black_box_not_stronger,
    _transfer_weaker,
    _random_weaker,
    _no_silent_success,
    _gradients_aligned,
    _legal,
)
NEEDS_RIGHT_IMAGES = range(4, 14)
"""Numbers of the checks that compare attacks, which takes images that can be turned."""


def judge(evidence: Evidence) -> list[Verdict]:
    """Returns all verdicts, in order."""
    verdicts = [check(evidence) for check in CHECKS]
    right = int(evidence.clean.sum())
    if right >= ENOUGH_RIGHT:
        return verdicts
    reason = f"the model classifies {right} of {evidence.count} images right, too few to attack"
    advice = "Verdict the labels, the order of the classes and the range of pixels the model takes."
    return [
        Verdict(verdict.name, False, reason, advice, verdict.number, "skipped")
        if verdict.number in NEEDS_RIGHT_IMAGES
        else verdict
        for verdict in verdicts
    ]


def _stable(
    name: str,
    evidence: Evidence,
    after: np.ndarray,
    change: Mapping[str, str],
    advice: str,
    number: int,
) -> Verdict:
    before = {"pgd": evidence.pgd, "apgd": evidence.apgd}[evidence.attack]
    first, second = float(before.mean()), float(after.mean())
    passed = abs(first - second) <= POINT + _ROUNDING
    words = {"pgd": "with", "apgd": "after APGD, with"}[evidence.attack]
    figures = f"{_percent(first)} → {_percent(second)} {words} {change[evidence.attack]}"
    return Verdict(name, passed, figures, advice, number)


def _weaker(
    name: str,
    weak: np.ndarray,
    strong: np.ndarray,
    source: str,
    advice: str,
    number: int,
    tolerance: float,
) -> Verdict:
    left, reference = float(weak.mean()), float(strong.mean())
    evidence = f"{source} leave {_percent(left)}, PGD {_percent(reference)}"
    return Verdict(name, left >= reference - tolerance - _ROUNDING, evidence, advice, number)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
