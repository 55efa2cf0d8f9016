"""What a run says of its model on the model card."""

from __future__ import annotations

from typing import Any

from robustcls.data.splits import Splits
from robustcls.files import read_sealed
from robustcls.runs import METRICS, Run
from robustcls.serving.exports.model_card import metric_row


def run_card(run: Run, model: str, splits: Splits) -> dict[str, Any]:
    """Returns fields of `ModelCard` for a model of a run: summary, data, metrics, config."""
    metrics: dict[str, Any] = {}
    if (run.path / METRICS).is_file():
        metrics = read_sealed(run.path / METRICS)
    backbone = run.config["train"]["model"]["backbone"]
    training = (
        "with adversarial regularization"
        if model == "adversarial"
        else "without adversarial images"
    )
    rows = [
        metric_row(key, value, metrics["intervals"].get(model, {}).get(key))
        for key, value in metrics.get(model, {}).items()
        if key != "epsilon"
    ]
    data = {
        "source": splits.source,
        "fingerprint": splits.fingerprint,
        "test images": len(splits.test),
    }
    if rows:
        data["attacks"] = f"L-infinity, epsilon {metrics['epsilon']:.4g} for images in [0, 1]"
    return {
        "summary": f"`{backbone}`, trained {training}; the run's `{model}`.",
        "data": data,
        "metrics": tuple(rows),
        "config": run.config["train"],
    }
