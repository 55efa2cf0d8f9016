"""Figures show what they are given, and say what they cannot show."""

import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from robustcls import InputError, plots
from robustcls.attacks import AttackResult
from robustcls.evaluation.corruptions.report import CorruptionReport

LOGGED = {"loss": [2.0, 1.0, 0.5], "val_loss": [2.0, 1.5, 1.4], "accuracy": [0.1, 0.5, 0.9]}


def drawn(figure):
    """By title or label, what each line of a figure holds."""
    return {
        (axes.get_title(), line.get_label()): line.get_ydata().tolist()
        for axes in figure.axes
        for line in axes.lines
    }


def test_training_curves(tmp_path):
    found = drawn(plots.training_curves(SimpleNamespace(history=LOGGED)))
    assert found == {
        ("loss", "training"): LOGGED["loss"],
        ("loss", "validation"): LOGGED["val_loss"],
        ("accuracy", "training"): LOGGED["accuracy"],
    }
    assert drawn(plots.training_curves(LOGGED)) == found
    for name in ("base", "robust"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "history.csv").write_text("epoch,loss\n0,2.0\n1,1.0\n")
    both = {("loss", "base"): [2, 1], ("loss", "robust"): [2, 1]}
    assert drawn(plots.training_curves(tmp_path)) == both
    assert drawn(plots.training_curves(str(tmp_path / "base" / "history.csv"))) == {
        ("loss", "training"): [2, 1]
    }
    for given in (3, {}, {"loss": []}, tmp_path / "none"):
        with pytest.raises(InputError, match="history must"):
            plots.training_curves(given)


def test_robustness_curve():
    fallen = {
        epsilon: AttackResult(np.zeros(0), np.arange(4) < count)
        for epsilon, count in ((0.1, 3), (0.0, 1))
    }
    (line,) = plots.robustness_curve(fallen).axes[0].lines
    assert (line.get_xdata().tolist(), line.get_ydata().tolist()) == ([0, 0.1], [75, 25])
    report = CorruptionReport(
        scale="s", severities=(1, 5), accuracies={"fog": (0.8, 0.4)}, count=9, clean=0.9
    )
    axes = plots.robustness_curve(report).axes[0]
    assert axes.lines[0].get_xdata().tolist() == [0, 1, 5]
    assert axes.get_xlabel() == "severity"
    metrics = {"accuracy_over_epsilon": {"base": [[0, 1.0]], "robust": [[0, 0.9]]}}
    assert len(plots.robustness_curve(metrics).axes[0].lines) == 2
    for curves in (
        {0.1: 0.5, 0: 0.9},
        {"mine": {0.1: 0.5, 0: 0.9}},
        {"mine": [(0, 0.9), (0.1, 0.5)]},
    ):
        (line,) = plots.robustness_curve(curves).axes[0].lines
        assert (line.get_xdata().tolist(), line.get_ydata().tolist()) == ([0, 0.1], [90, 50])
    with pytest.raises(InputError, match="at least one point"):
        plots.robustness_curve({"accuracy_over_epsilon": {}})
    with pytest.raises(InputError, match=r"must hold \(epsilon, accuracy\) points"):
        plots.robustness_curve({"mine": [0.9, 0.5]})


def test_confusion_matrix():
    figure = plots.confusion_matrix(np.array([0, 0, 1]), np.array([0, 1, 1]), ["cat", "größer"])
    axes = figure.axes[0]
    assert axes.images[0].get_array().tolist() == [[50, 50], [0, 100]]
    assert [text.get_text() for text in axes.texts] == ["1", "1", "1"]
    assert not plots.confusion_matrix(np.arange(100), np.arange(100)).axes[0].texts
    with pytest.raises(InputError, match=r"labels must be in \[0, 1\)"):
        plots.confusion_matrix(np.array([0, 1]), np.array([0, 0]), ["cat"])


def test_gallery():
    images = np.full((3, 8, 8, 1), 0.5, np.float32)
    twins = images + np.float32(0.1)
    figure = plots.gallery(images, twins, ["a", "b", "c"], limit=2)
    assert len(figure.axes) == 6
    assert figure.axes[4].get_ylabel() == "change × 5"
    np.testing.assert_allclose(figure.axes[4].images[0].get_array(), 1, atol=1e-5)
    assert "change × 1" in [axes.get_ylabel() for axes in plots.gallery(images, images).axes]
    with pytest.raises(InputError, match="adversarial must be"):
        plots.gallery(images, twins[:1])
    with pytest.raises(InputError, match="titles must be 3"):
        plots.gallery(images, twins, ["a"])


def test_score_histogram():
    scores, labels = np.array([0.1, 0.2, 0.9]), np.array([0, 0, 1])
    axes = plots.score_histogram(scores, labels, 0.5).axes[0]
    assert axes.get_legend_handles_labels()[1] == ["normal", "anomalies", "threshold"]
    assert sum(patch.get_height() for patch in axes.patches) == pytest.approx(200)
    assert axes.lines[0].get_xdata()[0] == 0.5
    assert len(plots.score_histogram(scores).axes[0].lines) == 0
    with pytest.raises(InputError, match="scores must be finite"):
        plots.score_histogram(np.array([np.nan]))


def test_a_notebook_shows_them_without_pyplot():
    code = (
        "import sys; from robustcls import plots;"
        "figure = plots.score_histogram([1.0, 2.0]); png = figure._repr_png_();"
        "print(png[:4], [n for n in ('matplotlib.pyplot', 'tensorflow') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "b'\\x89PNG' []\n", done.stderr
