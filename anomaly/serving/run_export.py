"""A run's detector as a SavedModel, with the run's figures on its card."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from anomaly.experiments.runs import open_detector_run
from robustcls.data.splits import Splits
from robustcls.runs import METRICS, Run, read_json
from robustcls.serving.optional_packages import require_serving


def export_detector(
    run: Run | Path | str,
    out: Path | str | None = None,
    *,
    name: str | None = None,
    version: int | None = None,
) -> Path:
    """Writes a run's detector as a SavedModel, with the run's figures on its card.

    Args:
        run: a run or its folder.
        out: the model's folder; `export/` in the run by default.
        name: the detector's name in requests; the run's by default.
        version: its number; None takes the next.

    Returns:
        The folder of the version.

    Raises:
        InputError: there is no run or no trained detector, the images have changed since, the
            version exists, or `out` cannot be written.
    """
    require_serving()
    from anomaly.serving.exporting import write_detector
    from robustcls.serving.exports.configuration import usable_name
    from robustcls.serving.exports.exporting import sample

    run, detector, splits, parts = open_detector_run(run)
    return write_detector(
        detector,
        run.path / "export" if out is None else out,
        images=sample(parts.test),
        name=name or usable_name(run.path.resolve().name),
        version=version,
        card=card_of(run, splits),
    )


def card_of(run: Run, splits: Splits) -> dict[str, Any]:
    """Returns fields of `ModelCard` for a run: data, metrics, config."""
    from robustcls.serving.exports.model_card import metric_row

    metrics = read_json(run.path / METRICS) if (run.path / METRICS).is_file() else {}
    rows = []
    if metrics:
        rates = {"false alarms": "false_alarm_rate", "anomalies found": "detection_rate"}
        rows = [metric_row(key, metrics[key], None) for key in ("auroc", "aupr", "f1")]
        rows += [metric_row(key, metrics[of]["got"], metrics[of]) for key, of in rates.items()]
    data = {
        "source": splits.source,
        "fingerprint": splits.fingerprint,
        "normal class": run.config["data"]["normal_class"],
    }
    return {"data": data, "metrics": tuple(rows), "config": run.config["detector"]}
