"""`report/evaluation.html`: what `metrics.json` holds, for people. One file, no network."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from robustcls.evaluation.findings import is_broken
from robustcls.evaluation.reports.charts import line_chart
from robustcls.evaluation.reports.sections import History, matrix, matrix_picture, training_charts
from robustcls.reports.evaluations import LINKS
from robustcls.reports.html import page_template
from robustcls.runs import write_text

WORST_CLASSES = 5
CONFUSIONS = 10


def write_report(
    metrics: Mapping[str, Any],
    path: Path | str,
    *,
    histories: Mapping[str, History] | None = None,
    pictures: Mapping[str, Any] | None = None,
) -> None:
    """Writes the report, whole or not at all.

    Args:
        metrics: what `evaluate_run` returned, or what it wrote to `metrics.json`.
        path: the HTML file to write.
        histories: by model, what its training logged after each epoch.
        pictures: by model, what `attacked_images` returned.

    Raises:
        InputError: it cannot be written.
    """
    write_text(path, render(metrics, histories, pictures))


def render(
    metrics: Mapping[str, Any],
    histories: Mapping[str, History] | None = None,
    pictures: Mapping[str, Any] | None = None,
) -> str:
    """Returns the report as HTML; arguments as for `write_report`."""
    template = page_template("evaluation.html", "robustcls.evaluation.reports", "robustcls.reports")
    attack = strongest(metrics)
    return template.render(
        metrics=metrics,
        links=LINKS,
        attack=attack,
        summary=summary(metrics),
        epsilon_chart=_over_epsilon(metrics),
        severity_chart=_over_severity(metrics),
        curve_note=_images_behind(_curve_counts(metrics)),
        distance_note=_median_distances(metrics),
        severity_note=_severity_note(metrics),
        front_chart=_front(metrics, attack),
        trainings=training_charts(histories or {}),
        pictures=pictures or {},
        matrices=_matrices(metrics),
        confusions={model: _confusions(metrics, model) for model in metrics["models"]},
        worst={model: _worst(metrics, model, attack) for model in metrics["models"]},
        reliability={model: _reliability(metrics, model) for model in metrics["models"]},
    )


def strongest(metrics: Mapping[str, Any]) -> str | None:
    """Returns the attack, of those measured, that leaves the models the least; None without."""
    models = metrics["models"]
    measured = [name for name in metrics["attacks"] if all(name in metrics[m] for m in models)]
    if not measured:
        return None
    return min(measured, key=lambda name: sum(metrics[model][name] for model in models))


def summary(metrics: Mapping[str, Any]) -> list[str]:
    """Returns the findings in a few sentences."""
    attack = strongest(metrics)
    sentences = []
    for model in metrics["models"]:
        words = (
            f"{model} classifies {100 * metrics[model]['clean']:.1f} % of {metrics['count']:,} "
            "test images right"
        )
        if attack is not None:
            attacked = metrics["intervals"][model][attack]["count"]
            words += f", and {100 * metrics[model][attack]:.1f} % of {attacked:,} under {attack}"
        sentences.append(words + ".")
    if attack is not None and not is_broken(metrics, metrics["models"][0]):
        first, *others = metrics["models"]
        for model in others:
            clean = metrics[model]["clean"] - metrics[first]["clean"]
            robust = metrics[model][attack] - metrics[first][attack]
            sentences.append(
                f"Against {first}, {model} {_gains(clean)} on clean images and {_gains(robust)} "
                f"under {attack}."
            )
    for model, found in metrics["trust"].items():
        verdict = (
            "nothing speaks against the figures under attack"
            if found["believable"]
            else "its figures under attack are not to be believed"
        )
        sentences.append(f"{model}: {found['summary']}; {verdict}.")
    return sentences


def _gains(difference: float) -> str:
    points = round(100 * difference, 1)
    if points == 0:
        return "is level"
    return f"{'gains' if points > 0 else 'gives up'} {abs(points):.1f} points"


def _over_epsilon(metrics: Mapping[str, Any]) -> str | None:
    curves = metrics["accuracy_over_epsilon"]
    if not curves:
        return None
    ball = "L∞" if metrics["norm"] == "inf" else f"L{metrics['norm']}"
    attack = metrics["curve_attack"]
    return line_chart(
        curves,
        title=f"Accuracy under {attack} over epsilon",
        x_label=f"epsilon ({ball}, images in [0, 1])",
        y_label=f"accuracy under {attack} in %",
    )


def front(metrics: Mapping[str, Any], attack: str) -> list[str]:
    """Returns the models that no other equals or beats in both clean and robust accuracy.

    Args:
        metrics: what `evaluate_models` returned.
        attack: the one whose accuracy counts as robust.

    Returns:
        Names, from the most robust to the most accurate on clean images.
    """
    points = {
        model: (metrics[model]["clean"], metrics[model][attack]) for model in metrics["models"]
    }

    def beaten(point: tuple[float, float]) -> bool:
        return any(
            other != point and other[0] >= point[0] and other[1] >= point[1]
            for other in points.values()
        )

    return sorted(
        (model for model, point in points.items() if not beaten(point)),
        key=lambda model: points[model],
    )


def _front(metrics: Mapping[str, Any], attack: str | None) -> str | None:
    """Clean against robust accuracy, a point for each model, and the front of the best."""
    models = metrics["models"]
    if attack is None or len(models) < 2:
        return None
    points = {model: (metrics[model]["clean"], metrics[model][attack]) for model in models}
    lines = {model: [point] for model, point in points.items()}
    best = [points[model] for model in front(metrics, attack)]
    return line_chart(
        {**lines, "Pareto front": best},
        title=f"Accuracy under {attack} over clean accuracy",
        x_label="clean accuracy",
        y_label=f"accuracy under {attack} in %",
        ticks=[0, 0.25, 0.5, 0.75, 1],
    )


def _over_severity(metrics: Mapping[str, Any]) -> str | None:
    tables = metrics["corruptions"]
    if not tables:
        return None
    lines = {
        model: list(zip(table["severities"], table["mean_by_severity"], strict=True))
        for model, table in tables.items()
    }
    for model, line in lines.items():
        if tables[model]["clean"] is not None:
            line.insert(0, (0, tables[model]["clean"]))
    ticks = sorted({severity for line in lines.values() for severity, _ in line})
    return line_chart(
        lines,
        title="Mean accuracy over corruptions by severity",
        x_label="severity (0: no corruption)",
        y_label="mean accuracy in %",
        ticks=ticks,
    )


def _curve_counts(metrics: Mapping[str, Any]) -> dict[str, int]:
    if "curve_count" in metrics:
        return metrics["curve_count"]
    # Metrics of 0.1 do not say, but this is how many there were.
    count = min(metrics["settings"]["curve_limit"], metrics["count"])
    return dict.fromkeys(metrics["accuracy_over_epsilon"], count)


def _median_distances(metrics: Mapping[str, Any]) -> str:
    """How far the nearest misclassified point of half of the images is at most, in words."""
    # Metrics of 0.1 do not say.
    found = metrics.get("median_distance", {})
    known = [f"{model} {distance:.4g}" for model, distance in found.items() if distance is not None]
    return f"Median distance to a misclassified point: {', '.join(known)}." if known else ""


def _images_behind(counts: Mapping[str, int]) -> str:
    """How many images are behind each point, in words."""
    if len(set(counts.values())) > 1:
        return "; ".join(f"{model}: {count:,} images" for model, count in counts.items()) + "."
    return "".join(
        f"{count:,} {'image' if count == 1 else 'images'}." for count in set(counts.values())
    )


def _severity_note(metrics: Mapping[str, Any]) -> str:
    tables = metrics["corruptions"].values()
    kinds = sorted({len(table["accuracies"]) for table in tables})
    counts = {model: table["count"] for model, table in metrics["corruptions"].items()}
    return f"The mean over {' or '.join(map(str, kinds))} corruptions. {_images_behind(counts)}"


def _reliability(metrics: Mapping[str, Any], model: str) -> str:
    lines = {
        part: [
            (found["bin_confidence"][at], found["bin_accuracy"][at])
            for at, count in enumerate(found["bin_count"])
            if count
        ]
        for part, found in metrics["calibration"][model].items()
    }
    return line_chart(
        lines,
        title=f"Accuracy of {model} over its confidence",
        x_label="confidence",
        y_label="accuracy in %",
        ticks=[0, 0.25, 0.5, 0.75, 1],
        diagonal=True,
    )


def _confusions(metrics: Mapping[str, Any], model: str) -> list[tuple[str, str, int]]:
    """The most frequent mistakes on clean images: (class, taken for, images)."""
    names = metrics["class_names"]
    pairs = [
        (true, predicted, count)
        for true, row in zip(names, metrics["confusion"][model], strict=True)
        for predicted, count in zip(names, row, strict=True)
        if count and predicted != true
    ]
    return sorted(pairs, key=lambda pair: -pair[2])[:CONFUSIONS]


def _matrices(metrics: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """For each model its confusion matrices: clean, and under the attack that leaves least."""
    names, found = metrics["class_names"], {}
    for model in metrics["models"]:
        under = metrics.get("confusion_under_attack", {}).get(model)
        counts = {"clean images": metrics["confusion"][model]}
        if under is not None:
            counts[f"under {under['attack']}"] = under["counts"]
        found[model] = [
            {
                "title": title,
                "count": int(np.sum(counted)),
                "rows": matrix(counted, names),
                "picture": "" if matrix(counted, names) else matrix_picture(counted),
            }
            for title, counted in counts.items()
        ]
    return found


def _worst(metrics: Mapping[str, Any], model: str, attack: str | None) -> list[dict[str, Any]]:
    """The classes with the least accuracy on clean images."""
    rows = []
    for found in metrics["classes"][model]:
        if not found["count"]["clean"]:
            continue
        row = {
            "name": found["name"],
            "count": found["count"]["clean"],
            "clean": found["right"]["clean"] / found["count"]["clean"],
            "robust": None,
        }
        if attack is not None and found["count"].get(attack):
            row["robust"] = found["right"][attack] / found["count"][attack]
        rows.append(row)
    return sorted(rows, key=lambda row: row["clean"])[:WORST_CLASSES]
