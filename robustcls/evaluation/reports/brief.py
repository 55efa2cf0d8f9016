"""The figures of an evaluation as a notebook shows them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from robustcls._notebook import Brief
from robustcls.evaluation.reports.report import summary


def brief_of(metrics: Mapping[str, Any], page: Path) -> Brief:
    """Returns the first findings in a line, the accuracies in a table, and the page.

    Args:
        metrics: what `evaluate_models` returned.
        page: `report/evaluation.html`.
    """
    models = metrics["models"]
    rows = [
        [name, *(_cell(metrics, model, name) for model in models)]
        for name in metrics["intervals"][models[0]]
    ]
    line = " ".join(summary(metrics)[: len(models)])
    return Brief(line, ("accuracy in %", *models), rows, page)


def _cell(metrics: Mapping[str, Any], model: str, name: str) -> str:
    found = metrics["intervals"][model].get(name)
    if found is None:
        return "–"
    low, high = 100 * found["low"], 100 * found["high"]
    return f"{100 * metrics[model][name]:.1f} ({low:.1f} – {high:.1f})"
