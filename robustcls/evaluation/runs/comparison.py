"""Evaluates models side by side: `metrics.json`, a report, a plot and a table."""

from __future__ import annotations

import dataclasses
import gc
import sys
from collections.abc import Mapping
from typing import Any

import keras
from rich.console import Console
from rich.table import Table

from robustcls._memory import within_memory
from robustcls._notebook import Metrics
from robustcls.distribution.parts import Ledger
from robustcls.evaluation.corruptions.report import CorruptionReport
from robustcls.evaluation.findings import findings
from robustcls.evaluation.reports.brief import brief_of
from robustcls.evaluation.reports.charts import write_chart
from robustcls.evaluation.reports.report import write_report
from robustcls.evaluation.runs.config import EvaluationConfig
from robustcls.evaluation.runs.models import ModelsAndImages
from robustcls.evaluation.runs.plan import EvaluationPlan, attacks_of, depends_on
from robustcls.files import write_sealed
from robustcls.reports.evaluations import (
    choose_evaluation,
    evaluating,
    evaluation_folder,
    link_pages,
)
from robustcls.runs import METRICS, versions

EVALUATION_PARTS = "evaluation"
Results = dict[str, dict[str, Any]]
"""What was measured, by model and part."""


def chosen_evaluation(
    evaluated: ModelsAndImages,
    config: EvaluationConfig,
    *,
    name: str | None = None,
    resume: bool = False,
) -> ModelsAndImages:
    """Returns the same models and images, with the folder of one evaluation of them.

    Args:
        evaluated: the models and the images; see `find_models`.
        config: what to measure.
        name: of the evaluation; when None `default`, or, where that has other settings, what
            differs from them (str or None, default None).
        resume: go on with that evaluation, whatever its settings (bool, default False).

    Raises:
        InputError: the name is none, or that of an evaluation with other settings.
    """
    chosen = choose_evaluation(evaluated.folder, _settings(config), name=name, resume=resume)
    folder = evaluation_folder(evaluated.folder, chosen)
    return dataclasses.replace(evaluated, folder=folder, evaluation=chosen)


def _settings(config: EvaluationConfig) -> dict[str, Any]:
    return dataclasses.asdict(config) | {"attack": list(config.attacks)}


def evaluate_models(
    evaluated: ModelsAndImages,
    config: EvaluationConfig | None = None,
    *,
    resume: bool = False,
    progress: bool = False,
) -> dict[str, Any]:
    """Evaluates every model on the test images.

    Writes `metrics.json`, `report/evaluation.html` and `report/accuracy_over_epsilon.svg`; beside
    an evaluation with other settings, which stays, into `evaluations/NAME` (`chosen_evaluation`
    says the name). The report is written after each part with what is known so far, and the parts
    are kept in `evaluation/`. Besides the images themselves, memory does not grow with their
    number, but for the logits.

    Args:
        evaluated: the models and the images; see `find_models`.
        config: what to measure; the defaults when None (default None).
        resume: take over the parts of an earlier evaluation that would come out the same, and
            go on with attacks that were stopped (bool, default False).
        progress: show what is being measured (bool, default False).

    Returns:
        What `metrics.json` holds: for each model the accuracy in [0, 1] by name, and more.

    Raises:
        InputError: a model does not fit the images, a setting is unusable, or another process
            trains or measures there.
    """
    config = config or EvaluationConfig()
    if evaluated.evaluation is None:
        evaluated = chosen_evaluation(evaluated, config, resume=resume)
    with evaluating(evaluated.folder):
        return _evaluate(evaluated, config, resume, progress)


def _evaluate(
    evaluated: ModelsAndImages, config: EvaluationConfig, resume: bool, progress: bool
) -> dict[str, Any]:
    # All are made before the first is measured: wrong settings cost no time.
    work = [EvaluationPlan(evaluated, stored, config, progress) for stored in evaluated.models]
    ledger = Ledger(evaluated.folder / EVALUATION_PARTS, reuse=resume)
    results: Results = {}
    metrics: dict[str, Any] = {}
    while work:
        plan = work.pop(0)
        name = plan.stored.name
        results[name] = {}
        for part in plan.parts:
            if progress:
                print(f"{name}: {part.name}", file=sys.stderr)
            whole = depends_on(evaluated, plan, part)
            with within_memory(config.batch_size):
                results[name][part.name] = ledger.part(name, part.name, whole, part.measure)
            complete = not work and part is plan.parts[-1]
            metrics = _metrics(evaluated, config, results, complete)
            metrics["findings"] = findings(metrics, evaluated.notes)
            write_report(
                metrics,
                evaluated.folder / "report" / "evaluation.html",
                histories=evaluated.histories,
                pictures=_of_parts(results, "images"),
            )
        del plan
        # The graphs of one model would otherwise stay in memory beside those of the next.
        keras.backend.clear_session()
        gc.collect()
    metrics = write_sealed(evaluated.folder / METRICS, metrics)
    curves = metrics["accuracy_over_epsilon"]
    if curves:
        ball = "L-infinity" if config.norm == "inf" else f"L{config.norm}"
        write_chart(
            curves,
            evaluated.folder / "report" / "accuracy_over_epsilon.svg",
            title=f"Accuracy under {metrics['curve_attack']} over epsilon",
            x_label=f"epsilon ({ball}, images in [0, 1])",
            y_label=f"accuracy under {metrics['curve_attack']} in %",
        )
    link_pages(evaluated.folder)
    page = evaluated.folder / "report" / "evaluation.html"
    return Metrics(metrics, brief_of(metrics, page))


def print_comparison(metrics: Mapping[str, Any], console: Console | None = None) -> None:
    """Prints the accuracies of `metrics`, a row each, a column for every model."""
    console = console or Console()
    models = metrics["models"]
    table = Table(title=f"Accuracy in %, 95 % interval (epsilon {metrics['epsilon']:.4g})")
    table.add_column("images")
    for model in models:
        table.add_column(model, justify="right")
    for name in metrics["intervals"][models[0]]:
        trained_on = "  (in training)" if name in metrics["trained_on"] else ""
        cells = [
            f"{100 * metrics[model][name]:.1f} "
            f"[{100 * metrics['intervals'][model][name]['low']:.1f}, "
            f"{100 * metrics['intervals'][model][name]['high']:.1f}]"
            for model in models
        ]
        table.add_row(f"{name}{trained_on}", *cells)
    if metrics["corruptions"]:
        scale = metrics["corruptions"][models[0]]["scale"]
        means = [f"{100 * metrics['corruptions'][m]['mean_accuracy']:.1f}" for m in models]
        table.add_row(f"mean over {scale}", *means)
    console.print(table)
    for model, distance in metrics.get("median_distance", {}).items():
        if distance is not None:
            line = f"Median distance to a misclassified point, {model}: {distance:.4g}"
            console.print(line, highlight=False, markup=False)
    for words in metrics.get("findings", ()):
        console.print(f"Mind: {words}", highlight=False, markup=False)
    for model, found in metrics["trust"].items():
        console.print(f"Trust, {model}: {found['summary']}", highlight=False, markup=False)
        for check in found["checks"]:
            if check["status"] in ("fail", "warning"):
                line = f"  {check['status']:7} {check['number']:2} {check['name']}: "
                console.print(line + check["evidence"], highlight=False, markup=False)


def _metrics(
    evaluated: ModelsAndImages, config: EvaluationConfig, results: Results, complete: bool
) -> dict[str, Any]:
    measured = {
        model: {name: found for name, found in parts.items() if "measurement" in found}
        for model, parts in results.items()
    }
    return {
        "title": evaluated.title,
        "evaluation": evaluated.evaluation,
        "complete": complete,
        "models": list(results),
        "epsilon": config.epsilon,
        "norm": config.norm,
        "count": len(evaluated.test),
        "attacks": [attack.name for attack in attacks_of(config)],
        **{model: _accuracies(parts, config.epsilon) for model, parts in measured.items()},
        "intervals": {model: _intervals(parts) for model, parts in measured.items()},
        "trained_on": list(evaluated.trained_on),
        "accuracy_over_epsilon": {
            model: curve["points"] for model, curve in _of_parts(results, "curve").items()
        },
        # Before 0.2 a curve did not say how many images are behind it.
        "curve_count": {
            model: curve.get("count", min(config.curve_limit, len(evaluated.test)))
            for model, curve in _of_parts(results, "curve").items()
        },
        "curve_attack": "fmn",
        "median_distance": {
            model: curve.get("median_distance")
            for model, curve in _of_parts(results, "curve").items()
        },
        "classes": {
            model: _classes(parts, evaluated.class_names) for model, parts in measured.items()
        },
        "confusion": {model: parts["clean"]["confusion"] for model, parts in results.items()},
        "confusion_under_attack": _confusions_under_attack(results, config),
        "calibration": {
            model: {name: found["calibration"] for name, found in parts.items()}
            for model, parts in measured.items()
        },
        "corruptions": _corruptions(results),
        "trust": _of_parts(results, "trust"),
        "settings": _settings(config),
        "training_seed": evaluated.training_seed,
        "versions": versions(),
        "class_names": list(evaluated.class_names),
        "data_source": evaluated.source,
        "data_fingerprint": evaluated.fingerprint,
        "model_sha256": {
            model.name: model.digest for model in evaluated.models if model.name in results
        },
    }


def _of_parts(results: Results, name: str) -> dict[str, dict[str, Any]]:
    """One part's result by model, where it is known."""
    return {model: parts[name] for model, parts in results.items() if name in parts}


def _confusions_under_attack(results: Results, config: EvaluationConfig) -> dict[str, Any]:
    """For each model, what the attack that leaves it the least makes it take for what."""
    found = {}
    for model, parts in results.items():
        known = [
            (parts[attack.name]["measurement"]["accuracy"], attack.name)
            for attack in reversed(attacks_of(config))
            if "confusion" in parts.get(attack.name, {})
        ]
        if known:
            name = min(known, key=lambda pair: pair[0])[1]
            found[model] = {"attack": name, "counts": parts[name]["confusion"]}
    return found


def _accuracies(measured: Mapping[str, Any], epsilon: float) -> dict[str, float]:
    accuracies = {name: found["measurement"]["accuracy"] for name, found in measured.items()}
    return accuracies | {"epsilon": epsilon}


def _intervals(measured: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: {key: found["measurement"][key] for key in ("low", "high", "count")}
        for name, found in measured.items()
    }


def _classes(measured: Mapping[str, Any], class_names: tuple[str, ...]) -> list[dict[str, Any]]:
    """For each class, its images and how many are right, by part."""
    return [
        {
            "name": name,
            "count": {part: found["count_by_class"][label] for part, found in measured.items()},
            "right": {part: found["right_by_class"][label] for part, found in measured.items()},
        }
        for label, name in enumerate(class_names)
    ]


def _corruptions(results: Results) -> dict[str, Any]:
    """The corruption tables, with mCE against the first model of several."""
    reports = {
        model: CorruptionReport(**parts["corruptions"])
        for model, parts in results.items()
        if "corruptions" in parts
    }
    if len(reports) < 2:
        return {model: report.to_dict() for model, report in reports.items()}
    reference = next(iter(reports))
    return {
        model: report.to_dict(reports[reference], reference_name=reference)
        for model, report in reports.items()
    }
