"""The model of how a training grows is the one that its measurements give."""

import csv
import importlib.util
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FIGURES = ("value", "measured")
PAGE = ROOT / "docs/guides/how_it_grows.md"


@pytest.fixture(scope="module")
def growth():
    spec = importlib.util.spec_from_file_location("growth", ROOT / "benchmarks/growth.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_ring_is_found_in_exact_times(growth):
    made = {"base, s": 0.01, "a byte of weights, s": 1e-9}
    made |= {"latency, s": 1e-3, "bandwidth of all, bytes/s": 1e8}
    points = []
    for workers in (2.0, 4.0):
        for megabytes in (1.0, 4.0, 16.0):
            size = megabytes * 1e6
            own = (0.01 + size * 1e-9) * workers / 2
            cost = growth.exchange(workers, size, 1e-3, 1e8 / workers)
            point = {"workers": workers, "megabytes": megabytes, "limit_mbit": 0, "delay_s": 0}
            points.append(point | {"own_s": own, "exchange_s": cost, "step_s": own + cost})
    assert growth.fit(points) == pytest.approx(made, rel=1e-6)
    for point in points:
        checked = growth.check(made, point)
        assert checked["value"] == pytest.approx(checked["measured"])


def test_committed_figures_follow_from_the_measurements(growth, tmp_path, monkeypatch):
    out = tmp_path / "growth.csv"
    monkeypatch.setattr(sys, "argv", ["growth.py", "--out", str(out)])
    growth.main()
    committed = growth.RESULTS / "growth.csv"
    assert out.read_text() == committed.read_text()
    # The page's tables have no other numbers.
    with committed.open() as file:
        known = [float(row[key]) for row in csv.DictReader(file) for key in FIGURES if row[key]]
    tables = [line for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    found = [cell for line in tables for cell in re.findall(r"`([\d.]+)`", line)]
    assert len(found) > 50
    for cell in found:
        places = len(cell.partition(".")[2])
        assert any(f"{value:.{places}f}" == cell for value in known), cell
