"""The figures of a detector's evaluation as lines of a table."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table


def print_evaluation(metrics: dict[str, Any], console: Console | None = None) -> None:
    """Prints the figures of `metrics`, rates with their 95 % intervals."""
    table = Table(title=f"{metrics['method']}, normal: {metrics['normal_class']}; figures in %")
    table.add_column("on the test split")
    table.add_column("measured", justify="right")
    table.add_column("beside it")
    for line in table_lines(metrics):
        table.add_row(*line)
    (console or Console()).print(table)


def table_lines(metrics: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Returns name, value in % and remark of each figure of `evaluate_detector`."""
    false_alarms, detected = metrics["false_alarm_rate"], metrics["detection_rate"]
    share = 100 * metrics["anomaly_share"]
    lines = [
        ("AUROC", f"{100 * metrics['auroc']:.1f}", "chance 50.0"),
        ("AUPR", f"{100 * metrics['aupr']:.1f}", f"chance {share:.1f}"),
        ("F1", f"{100 * metrics['f1']:.1f}", f"threshold {metrics['threshold']:.4g}"),
    ]
    for name, rate, beside in (
        ("false alarms", false_alarms, f"asked {100 * false_alarms['asked']:g}"),
        ("anomalies found", detected, f"of {detected['count']}"),
    ):
        interval = f"[{100 * rate['low']:.1f}, {100 * rate['high']:.1f}]"
        lines.append((name, f"{100 * rate['got']:.1f} {interval}", beside))
    return lines
