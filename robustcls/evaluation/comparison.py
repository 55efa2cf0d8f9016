"""Evaluates the models of a run side by side: `metrics.json`, a table and a plot."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
from rich.console import Console
from rich.table import Table

from robustcls._validation import InputError, check_epsilon, check_number
from robustcls.attacks import FGSM, PGD
from robustcls.data.augment import AugmentationPolicy
from robustcls.data.sources import load
from robustcls.data.splits import Split, Splits
from robustcls.evaluation.curves import plot_accuracy_over_epsilon
from robustcls.evaluation.robustness import NOISES, Evaluation, evaluate, subset
from robustcls.models.classifier import load_classifier
from robustcls.runs import METRICS, Run, versions, write_json


def evaluate_run(
    run: Run | Path | str,
    *,
    epsilon: float = 8 / 255,
    steps: int = 20,
    restarts: int = 1,
    corruptions: str = "cifar_c",
    severity: int = 5,
    limit: int | None = None,
    curve_factors: Sequence[float] = (0.25, 0.5, 1.0, 1.5, 2.0),
    curve_limit: int = 256,
    batch_size: int = 128,
    seed: int = 0,
    progress: bool = False,
) -> dict[str, Any]:
    """Evaluates every trained model of a run on its test images.

    Writes `metrics.json` and `report/accuracy_over_epsilon.png` into the run.

    Args:
        run: a run or its folder.
        epsilon: L-infinity radius of FGSM and PGD for images in [0, 1].
        steps: steps of PGD.
        restarts: random starts of PGD.
        corruptions: the scale of the noises: cifar_c, tiny_imagenet_c or imagenet_c.
        severity: of the noises, 1 to 5.
        limit: attack a random subset of at most that many images; None attacks all.
        curve_factors: multiples of epsilon for the plot; empty plots nothing.
        curve_limit: images attacked for each point of the plot.
        batch_size: images a forward pass.
        seed: seed of noises, subsets and random starts.
        progress: show progress bars.

    Returns:
        What `metrics.json` holds.

    Raises:
        InputError: there is no run, no trained model, or a setting is unusable.
    """
    run = run if isinstance(run, Run) else Run(run)
    check_epsilon("epsilon", epsilon)
    check_number("limit", len(_names(run)) if limit is None else limit, minimum=1, integer=True)
    test = load_run_splits(run).test
    evaluations: dict[str, Evaluation] = {}
    curves: dict[str, list[tuple[float, float]]] = {}
    epsilons = sorted({min(1.0, factor * epsilon) for factor in curve_factors})
    settings: dict[str, Any] = {"batch_size": batch_size, "seed": seed, "progress": progress}
    for name in _names(run):
        model = load_classifier(run.folder(name) / "model.keras")
        attacks = [
            FGSM(epsilon=epsilon, seed=seed),
            PGD(epsilon=epsilon, steps=steps, restarts=restarts, seed=seed),
        ]
        evaluations[name] = evaluate(
            model,
            test,
            attacks=attacks,
            corruptions=corruptions,
            severity=severity,
            attack_limit=limit,
            **settings,
        )
        few = test.take(subset(len(test), curve_limit, seed))
        curves[name] = _curve(model, few, epsilons, steps, settings) if epsilons else []
    metrics = _metrics(run, evaluations, curves, epsilon)
    metrics["settings"] = {
        "epsilon": epsilon,
        "steps": steps,
        "restarts": restarts,
        "corruptions": corruptions,
        "severity": severity,
        "limit": limit,
        "curve_limit": curve_limit,
        "seed": seed,
    }
    write_json(run.path / METRICS, metrics)
    if epsilons:
        plot_accuracy_over_epsilon(
            curves, f"pgd{steps}", run.path / "report" / "accuracy_over_epsilon.png"
        )
    return metrics


def print_comparison(metrics: dict[str, Any], console: Console | None = None) -> None:
    """Prints the accuracies of `metrics`, a row each, a column for every model."""
    models = metrics["models"]
    table = Table(title=f"Accuracy in %, 95 % interval (epsilon {metrics['epsilon']:.4g})")
    table.add_column("images")
    for model in models:
        table.add_column(model, justify="right")
    for name, interval in metrics["intervals"][models[0]].items():
        trained_on = "  (in training)" if name in metrics["trained_on"] else ""
        cells = [
            f"{100 * metrics[model][name]:.1f} "
            f"[{100 * metrics['intervals'][model][name]['low']:.1f}, "
            f"{100 * metrics['intervals'][model][name]['high']:.1f}]"
            for model in models
        ]
        table.add_row(f"{name}{trained_on}", *cells)
        del interval
    (console or Console()).print(table)


def _names(run: Run) -> list[str]:
    if not run.trained:
        raise InputError(
            f"run must hold a trained model; {run.path} holds none. Was its training interrupted? "
            "Go on with --resume."
        )
    return run.trained


def load_run_splits(run: Run) -> Splits:
    """Loads the images that a run was trained on.

    Raises:
        InputError: they cannot be had, or have changed since.
    """
    settings = dict(run.config["train"]["data"])
    splits = load(settings.pop("name"), **settings)
    if splits.fingerprint != run.config["data"]["fingerprint"]:
        raise InputError(
            f"data must be what the run was trained on; {splits.source} has changed since."
        )
    return splits


def _curve(
    model: keras.Model,
    split: Split,
    epsilons: list[float],
    steps: int,
    settings: dict[str, Any],
) -> list[tuple[float, float]]:
    attacks = [PGD(epsilon=value, steps=steps, seed=settings["seed"]) for value in epsilons]
    measured = evaluate(model, split, attacks=attacks, corruptions=None, **settings)
    accuracies = [measurement.accuracy for measurement in measured.measurements]
    return list(zip([0.0, *epsilons], accuracies, strict=True))


def _metrics(
    run: Run,
    evaluations: dict[str, Evaluation],
    curves: dict[str, list[tuple[float, float]]],
    epsilon: float,
) -> dict[str, Any]:
    return {
        "models": list(evaluations),
        "epsilon": epsilon,
        **{
            name: {**evaluation.accuracies, "epsilon": epsilon}
            for name, evaluation in evaluations.items()
        },
        "intervals": {
            name: {
                measurement.name: {
                    key: value
                    for key, value in dataclasses.asdict(measurement).items()
                    if key in ("low", "high", "count")
                }
                for measurement in evaluation.measurements
            }
            for name, evaluation in evaluations.items()
        },
        "trained_on": _noises_in_training(run.config["train"]["augmentation"]),
        "accuracy_over_epsilon": curves,
        "versions": versions(),
        "data_fingerprint": run.config["data"]["fingerprint"],
    }


def _noises_in_training(augmentation: dict[str, Any] | None) -> list[str]:
    if augmentation is None:
        return []
    policy = AugmentationPolicy.from_config(augmentation)
    return [name for name in NOISES if name in policy.noises]
