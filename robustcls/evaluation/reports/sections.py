"""Parts of the evaluation page that are more than a table: trainings, confusion, pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from robustcls.evaluation.reports.charts import line_chart
from robustcls.reports.pictures import data_uri, to_colours

#: A larger matrix says nothing in numbers and is wider than any page; it becomes a picture.
LARGEST_MATRIX = 20
_BLUES = ("#ffffff", "#0072b2", "#00243a")

History = Sequence[Mapping[str, float]]


def training_charts(histories: Mapping[str, History]) -> list[tuple[str, Markup]]:
    """Returns a titled chart for each figure that the trainings logged: shares, then losses.

    Args:
        histories: by model, a row for each epoch.
    """
    names = dict.fromkeys(key for rows in histories.values() for row in rows for key in row)
    figures = dict.fromkeys(name.removeprefix("val_") for name in names if name != "epoch")
    charts = []
    for figure in sorted(figures, key=lambda name: "accuracy" not in name):
        lines = {}
        for model, rows in histories.items():
            for key, part in ((figure, "training"), (f"val_{figure}", "validation")):
                points = [(at, row[key]) for at, row in enumerate(rows, 1) if key in row]
                if points and np.isfinite([value for _, value in points]).all():
                    lines[f"{model}, {part}"] = points
        if lines:
            chart = line_chart(
                lines,
                title=f"{figure} after each epoch",
                x_label="epoch",
                y_label=f"{figure} in %" if "accuracy" in figure else figure,
                percent="accuracy" in figure,
            )
            charts.append((figure, chart))
    return charts


def matrix(confusion: Sequence[Sequence[int]], names: Sequence[str]) -> list[dict[str, Any]]:
    """Returns rows of counts by predicted class, with their share of the true class for the shade.

    Args:
        confusion: a row for each true class, a column for each predicted one.
        names: of the classes; of more than `LARGEST_MATRIX` no rows are returned.
    """
    if len(names) > LARGEST_MATRIX:
        return []
    return [
        {
            "name": name,
            "cells": [
                {"count": count, "share": round(count / max(1, sum(row)), 3), "right": at == label}
                for at, count in enumerate(row)
            ],
        }
        for label, (name, row) in enumerate(zip(names, confusion, strict=True))
    ]


def matrix_picture(confusion: Sequence[Sequence[int]]) -> str:
    """Returns the address of a picture of a large matrix, a pixel a cell, darker for more.

    Args:
        confusion: a row for each true class, a column for each predicted one.
    """
    counts = np.asarray(confusion, np.float64)
    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    return data_uri(to_colours(np.sqrt(shares), _BLUES), most_bytes=200_000)
