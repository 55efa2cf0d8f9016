"""The evaluation page in a browser, at the width of a phone and of a screen."""

import numpy as np

from robustcls.evaluation.intervals import measurement
from robustcls.evaluation.reports.report import write_report

NAMES = ("T-shirt/top", "Ankle boot", "größer als alle anderen", "日本語", "A long name " * 9)


def metrics():
    """Of one model, whose figures are not the point."""
    found = {name: measurement(name, 8, 10) for name in ("clean", "fgsm")}
    count = len(NAMES)
    counts = (np.eye(count, dtype=int) + 1).tolist()
    chart = {"bin_confidence": [0.5], "bin_accuracy": [0.5], "bin_count": [9]}
    shares = {"mean_confidence": 0.9, "accuracy": 0.8, "ece": 0.1, "auroc": None}
    return {
        **{"title": "a run", "complete": True, "models": ["base"], "attacks": ["fgsm"]},
        **{"epsilon": 0.1, "norm": "inf", "count": 10, "trained_on": [], "trust": {}},
        "base": {name: one.accuracy for name, one in found.items()},
        "intervals": {"base": {name: vars(one) for name, one in found.items()}},
        "confusion": {"base": counts},
        "confusion_under_attack": {"base": {"attack": "fgsm", "counts": counts}},
        "calibration": {"base": {"clean": shares | chart}},
        "classes": {
            "base": [
                {"name": name, "count": {"clean": 2, "fgsm": 2}, "right": {"clean": 1, "fgsm": 0}}
                for name in NAMES
            ]
        },
        **{"corruptions": {}, "accuracy_over_epsilon": {}, "curve_attack": "pgd20"},
        **{"settings": {"severity": 5, "curve_limit": 0}, "training_seed": None, "versions": {}},
        **{"class_names": list(NAMES), "data_source": "toys", "data_fingerprint": "0" * 64},
        "model_sha256": {"base": "1" * 64},
    }


def test_in_a_browser(browser, tmp_path):
    path = tmp_path / "evaluation.html"
    write_report(metrics(), path)
    lines = """[...document.querySelectorAll("tbody .name")].filter((cell) => {
        const range = document.createRange(); range.selectNodeContents(cell);
        return new Set([...range.getClientRects()].map((r) => Math.round(r.top))).size > 1;
    }).map((cell) => cell.textContent)"""
    for width in (1400, 390):
        browser.open(path, width)
        assert browser.run("document.documentElement.scrollWidth") <= width
        assert browser.run(lines) == []
        main = browser.run("document.querySelector('main').getBoundingClientRect().width")
        assert main > 0.9 * width
    bar = "document.querySelectorAll('.bar i')[1].getBoundingClientRect().width / "
    bar += "document.querySelectorAll('.bar')[1].getBoundingClientRect().width"
    assert abs(browser.run(bar) - 0.8) < 0.01
    assert browser.problems == []
