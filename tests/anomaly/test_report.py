from dataclasses import dataclass

import numpy as np
import pytest

from anomaly.reports.report import write_anomaly_report
from robustcls._validation import InputError


@dataclass
class Box:
    left: int
    top: int
    right: int
    bottom: int


@pytest.fixture
def arrays():
    generator = np.random.default_rng(0)
    return {
        "images": generator.random((4, 12, 12, 1), dtype=np.float32),
        "scores": np.array([0.1, 0.9, 0.3, 0.8]),
        "threshold": 0.5,
        "maps": generator.random((4, 12, 12)).astype(np.float32),
        "boxes": [[], [Box(1, 2, 6, 7), Box(0, 0, 3, 3)], [], [Box(4, 4, 9, 9)]],
    }


def test_the_page_shows_boxes_and_mistakes(arrays, tmp_path):
    path = write_anomaly_report(
        tmp_path / "report" / "anomalies.html",
        **arrays,
        labels=np.array([0, 1, 1, 0]),
        ids=["<b>0", "1", "2", "3"],
        detector="memae",
    )
    html = path.read_text()
    assert "memae raises 2 alarms on 4 images." in html
    assert "1 of 2 anomalies are caught, and 1 of 2 normal images raise an alarm." in html
    assert "<b>" not in html
    assert html.count("<img") == 4 * 3 + 1
    assert 'data-rank="0.9"\n data-tags="alarm"' in html
    assert 'data-tags="quiet missed"' in html
    assert 'data-tags="alarm false_alarm"' in html
    assert "2 boxes" in html


def test_arrays_that_do_not_fit(arrays, tmp_path):
    for argument, value in (
        ("scores", np.zeros(3)),
        ("boxes", [[]]),
        ("maps", np.zeros((4, 3, 3))),
    ):
        with pytest.raises(InputError, match=f"{argument} must be"):
            write_anomaly_report(tmp_path / "page.html", **(arrays | {argument: value}))
