"""The results of a benchmark as JSON, CSV and Markdown."""

from __future__ import annotations

import csv
import io
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

from robustcls.runs import write_json, write_text

#: What the summary shows: the column's name, its value in a result, and the factor to show it by.
#: Those of maps are of results that were measured with masks; others have None there.
COLUMNS: tuple[tuple[str, Callable[[dict[str, Any]], float | None], float], ...] = (
    ("AUROC %", lambda result: result["auroc"], 100),
    ("AUPR %", lambda result: result["aupr"], 100),
    ("F1 %", lambda result: result["f1"], 100),
    ("false alarms asked %", lambda result: result["false_alarm_rate"]["asked"], 100),
    ("got %", lambda result: result["false_alarm_rate"]["got"], 100),
    ("anomalies found %", lambda result: result["detection_rate"]["got"], 100),
    ("oracle gap, points", lambda result: oracle_gap(result), 100),
    ("AUROC % film by film", lambda result: result.get("normalized_auroc"), 100),
    ("smoothed", lambda result: result.get("smoothed_auroc"), 100),
    ("pixel AUROC %", lambda result: result.get("pixel_auroc"), 100),
    ("AUPRO %", lambda result: result.get("aupro"), 100),
    ("mask IoU %", lambda result: result.get("mask_iou"), 100),
    ("box IoU %", lambda result: result.get("box_iou"), 100),
    ("training s", lambda result: result["training_seconds"], 1),
    ("images/s", lambda result: result["images_per_second"], 1),
)


def oracle_gap(result: dict[str, Any]) -> float:
    """Returns by how much the epoch with the best test AUROC beats the detector as it is."""
    return result["oracle"]["best_auroc"] - result["oracle"]["auroc"]


def write_tables(
    results: list[dict[str, Any]], class_names: list[str], title: str, folder: Path
) -> None:
    """Writes `results.json`, `results.csv` and `results.md`.

    Args:
        results: as `run_benchmark` measures them.
        class_names: in the order of the tables' rows.
        title: of the Markdown.
        folder: where they go.
    """
    summary = summarize(results)
    write_json(folder / "results.json", {"title": title, "summary": summary, "results": results})
    write_text(folder / "results.csv", _csv(results))
    write_text(folder / "results.md", _markdown(results, summary, class_names, title))


def summarize(results: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Returns for each row the mean of every column over classes of the means over seeds.

    `classes` and `seeds` say over how many; `AUROC deviation %` is the standard deviation over
    seeds of the mean over classes, with two seeds or more.
    """
    summary = {}
    for row in dict.fromkeys(result["row"] for result in results):
        own = [result for result in results if result["row"] == row]
        names = dict.fromkeys(result["normal_class"] for result in own)
        # Class by class, or a seed of some classes alone would give these more weight.
        parts = [[result for result in own if result["normal_class"] == name] for name in names]
        entry: dict[str, float] = {}
        for name, value, scale in COLUMNS:
            found = [[value(result) for result in part] for part in parts]
            known = [[each for each in part if each is not None] for part in found]
            if known == found:
                entry[name] = scale * statistics.fmean(map(statistics.fmean, known))
        by_seed: dict[int, list[float]] = {}
        for result in own:
            by_seed.setdefault(result["seed"], []).append(100 * result["auroc"])
        whole = [statistics.fmean(v) for v in by_seed.values() if len(v) == len(names)]
        if len(whole) > 1:
            entry["AUROC deviation %"] = statistics.stdev(whole)
        summary[row] = {**entry, "classes": len(names), "seeds": len(by_seed)}
    return summary


def _csv(results: list[dict[str, Any]]) -> str:
    text = io.StringIO()
    columns = _columns(results)
    names = [name for name, _, _ in columns]
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["row", "normal_class", "seed", *names])
    for result in results:
        found = [(value(result), scale) for _, value, scale in columns]
        values = ["" if each is None else f"{scale * each:.6g}" for each, scale in found]
        writer.writerow([result["row"], result["normal_class"], result["seed"], *values])
    return text.getvalue()


def _markdown(
    results: list[dict[str, Any]],
    summary: dict[str, dict[str, float]],
    class_names: list[str],
    title: str,
) -> str:
    rows = list(summary)
    lines = [f"# One-class benchmark: {title}", "", "AUROC %, anomalies positive.", ""]
    lines += _table_head(["normal class", *rows])
    for name in class_names:
        cells = [
            _cell(
                [100 * r["auroc"] for r in results if (r["row"], r["normal_class"]) == (row, name)]
            )
            for row in rows
        ]
        if any(cells):
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
    means = []
    for row in rows:
        deviation = summary[row].get("AUROC deviation %")
        mean = f"**{summary[row]['AUROC %']:.2f}**"
        means.append(mean if deviation is None else f"{mean} ± {deviation:.2f}")
    lines += ["| mean | " + " | ".join(means) + " |", ""]
    lines += [
        "± is the standard deviation over seeds. The oracle gap is what choosing the epoch by test "
        "AUROC would have added; nothing was chosen by it.",
        "",
    ]
    lines += _table_head(["means", "runs", *(name for name, _, _ in _columns(results))])
    for row in rows:
        cells = [str(sum(result["row"] == row for result in results))]
        for name, _, _ in _columns(results):
            mean_of = summary[row].get(name)
            cells.append("–" if mean_of is None else f"{mean_of:.{_digits(name)}f}")
        lines.append(f"| {row} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _columns(results: list[dict[str, Any]]) -> list[tuple[str, Callable[..., Any], float]]:
    """Those that some result has."""
    return [each for each in COLUMNS if any(each[1](result) is not None for result in results)]


def _digits(column: str) -> int:
    return {"training s": 0, "images/s": 0}.get(column, 2)


def _table_head(names: list[str]) -> list[str]:
    return ["| " + " | ".join(names) + " |", "|---" * len(names) + "|"]


def _cell(values: list[float]) -> str:
    if not values:
        return ""
    mean = f"{statistics.fmean(values):.2f}"
    return f"{mean} ± {statistics.stdev(values):.2f}" if len(values) > 1 else mean
