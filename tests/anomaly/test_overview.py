"""The page of a detector, with a stand-in for the detector."""

from types import SimpleNamespace

import numpy as np
import pytest

from anomaly.detection.views import FeatureView, ImageView
from anomaly.experiments.protocol import evaluate_scores
from anomaly.localization.boxes import Box
from anomaly.reports.overview import write_overview
from robustcls.data.splits import Split
from robustcls.reports.evaluations import LINKS


@pytest.fixture
def written(tmp_path):
    """A run with the page of an evaluation of one-coloured images; bright ones are anomalies."""
    means = np.linspace(20, 230, 40).astype(np.uint8)
    images = np.broadcast_to(means[:, None, None, None], (40, 16, 16, 1)).copy()
    ids = np.array([f"test/{'größer' if at > 19 else 'gut'}/{at}.png" for at in range(40)])
    test = Split(images, (np.arange(40) > 19).astype(np.int64), ids)
    scores = (means / 255).astype(np.float32)

    def view(shown):
        boxes = [[Box(2, 2, 9, 9, 1.0)] for _ in shown]
        return ImageView(pictures={"map": shown}, boxes=boxes, note="Boxes are boxes.")

    detector = SimpleNamespace(
        method="stand_in",
        threshold=0.5,
        makes_maps=True,
        view_images=view,
        view_features=lambda shown, normal: FeatureView(points=shown[:, :2, :2, 0].reshape(-1, 4)),
    )
    config = {
        "data": {"source": "parts <b>"},
        "detector": {"epochs": 1},
        "seed": 3,
    }
    run = SimpleNamespace(path=tmp_path, config=config)
    (tmp_path / "training" / "first").mkdir(parents=True)
    history = "epoch,loss,val_loss\n0,-1.0,2.0\n1,-2.0,1.5\n"
    (tmp_path / "training" / "first" / "history.csv").write_text(history)
    figures = evaluate_scores(scores, test.labels, threshold=0.5, false_alarm_rate=0.05)
    metrics = {"method": "stand_in", "normal_class": "gut", "findings": ["Mind."], **figures}
    for folder in (tmp_path, tmp_path / "evaluations" / "second"):
        write_overview(run, detector, test, scores, metrics, folder)
    return tmp_path


def test_the_page_and_its_links(written):
    page = (written / "report" / "anomaly.html").read_text(encoding="utf-8")
    assert page.count("<figure>") == 4 * 8
    assert page.count('alt="test/gut/0.png: map"') == 1
    assert "parts &lt;b&gt;" in page
    assert "://" not in page
    assert "first: loss" in page
    for address in ("images.html", "../evaluations/second/report/anomaly.html"):
        assert f'href="{address}"' in page
    gallery = (written / "report" / "images.html").read_text(encoding="utf-8")
    assert 'href="anomaly.html"' in gallery
    assert LINKS not in gallery


def test_in_a_browser(browser, written):
    for width in (1400, 390):
        browser.open(written / "report" / "anomaly.html", width)
        assert browser.run("document.documentElement.scrollWidth") <= width
    browser.run("document.querySelector('a[href=\"images.html\"]').click()")
    browser.wait_for("location.pathname.endsWith('images.html')")
    assert browser.problems == []
