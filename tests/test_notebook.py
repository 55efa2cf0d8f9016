"""What objects show of themselves: a line, and in a notebook a small table."""

import subprocess
import sys

import keras
import numpy as np
import pytest

from anomaly.experiments.protocol import one_class_splits
from robustcls._notebook import MOST_ROWS, Brief, Briefly
from robustcls.attacks import AttackResult
from robustcls.classifiers.adapters import classifier_of
from robustcls.data.splits import Split, Splits
from robustcls.evaluation.calibration import Calibration
from robustcls.evaluation.corruptions.report import CorruptionReport
from robustcls.evaluation.intervals import measurement
from robustcls.evaluation.robustness import Evaluation
from robustcls.evaluation.smoothing import Certification
from robustcls.evaluation.trust.assessment import Verdicts
from robustcls.evaluation.trust.verdict import Verdict
from robustcls.explanation.explainer import Explainer
from robustcls.explanation.methods.maps import Maps


def split(count):
    labels = np.arange(count) % 2
    return Split(np.zeros((count, 8, 16, 3), np.uint8), labels, np.arange(count).astype(str))


NAMES = tuple(f"<class {at}>" for at in range(100))
SPLITS = Splits(split(90), split(9), split(2000), NAMES, "a folder", ("a.png",))
MODEL = keras.Sequential(
    [keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(3)], name="mine"
)
SHORT = [
    (split(2000), "Split(2,000 images of 16 x 8 pixels, colour, 2 classes)"),
    (SPLITS, "Splits(a folder; 90 + 9 + 2,000 images of 16 x 8 pixels, colour, 100 classes)"),
    (AttackResult(np.zeros((9, 8, 8, 1)), np.arange(9) < 4), "AttackResult(turned 4 of 9 images)"),
    (
        Evaluation((measurement("clean", 9, 10), measurement("fgsm", 4, 10))),
        "Evaluation(clean 90.0 %, fgsm 40.0 %)",
    ),
    (
        CorruptionReport(scale="s", severities=(1, 2), accuracies={"fog": (1.0, 0.5)}, count=8),
        "CorruptionReport(s, mean accuracy 75.0 % over 1 corruptions of 8 images)",
    ),
    (
        Certification(np.zeros(4), np.array([0, 0, 1, -1]), np.array([0.5, 0.1, 0.2, 0])),
        "Certification(4 images, right 50.0 %, abstained 25.0 %)",
    ),
    (Verdicts([Verdict("x", True, "e", "a", 1)] * 2), "Verdicts(2 of 2 checks passed)"),
    (classifier_of(MODEL), "Classifier(mine: images 8 x 8 x 1)"),
    (Explainer(MODEL), "Explainer(of mine: images 8 x 8 x 1)"),
    (
        Calibration(4, 0.75, 0.5, 0.25, None, (0, 4), (0, 0.5), (0, 0.75)),
        "Calibration(4 answers, 75.0 % right, 50.0 % sure, 25.0 % apart)",
    ),
    (Maps(np.zeros((3, 8, 16))), "Maps(3 maps of 16 x 8)"),
    (
        one_class_splits(SPLITS, 0),
        "OneClassSplits(31 normal images to learn from, 19 for the threshold; 2,000 to test on, "
        "1,000 of them anomalies)",
    ),
]


@pytest.mark.parametrize(("found", "words"), SHORT, ids=lambda value: type(value).__name__)
def test_short_forms(found, words):
    assert repr(found) == words
    html = found._repr_html_()
    assert len(html) < 4000
    assert "<class" not in html


def test_a_table_is_cut_and_a_page_is_linked(monkeypatch, tmp_path):
    class Long(Briefly):
        def brief(self):
            rows = [[f"<{at}>", "1"] for at in range(MOST_ROWS + 5)]
            return Brief("many", ("a", "b"), rows, tmp_path / "réport #1.html")

    monkeypatch.chdir(tmp_path)
    html = Long()._repr_html_()
    assert html.count("<tr>") == 1 + MOST_ROWS + 1
    assert "and 5 more" in html
    assert "&lt;0&gt;" in html
    assert 'href="r%C3%A9port%20%231.html"' in html


def test_bars_are_widgets_only_where_there_are_widgets():
    """In a kernel without ipywidgets, tqdm would warn at its import."""
    code = """
import sys, types
shell = types.SimpleNamespace(config={"IPKernelApp": {}})
sys.modules["IPython"] = types.SimpleNamespace(get_ipython=lambda: shell)
from robustcls._progress import tqdm
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True)
    assert done.stderr.decode() == ""
