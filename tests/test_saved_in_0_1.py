"""What version 0.1 wrote still loads and answers the same.

`fixtures/v0_1` was written by its last commit, with little data, few epochs and tiny networks: a
saved detector of each method with its answers to a few images (weights rounded to two bits of
mantissa before they were saved, to pack better), a run of `anomaly train` and one of
`robustcls train` (the base model's files and its logits of four test images).
"""

import json
import tarfile
from pathlib import Path

import keras
import numpy as np
import pytest

from anomaly import OneClassDetector
from anomaly.detection.registry import METHODS
from anomaly.experiments import evaluate_detector, load_detector
from robustcls import InputError, load
from robustcls.runs import Run

FIXTURES = Path(__file__).parent / "fixtures" / "v0_1"
DETECTORS = (
    *("autoencoder", "deep_sad", "deep_svdd", "ebgan", "memae", "ognet"),
    "one_class_svm",
)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Unpacks a fixture on first use."""
    root = tmp_path_factory.mktemp("v0_1")

    def get(name):
        if not (root / name).exists():
            with tarfile.open(FIXTURES / f"{name}.tar.xz") as archive:
                # Patch releases before 3.10.12 and 3.11.4 have no filters.
                archive.extraction_filter = getattr(tarfile, "data_filter", None)
                archive.extractall(root)
        return root / name

    return get


@pytest.mark.parametrize("method", DETECTORS)
def test_detectors(method, saved, tmp_path):
    folder = saved("detectors") / method
    answers = json.loads((saved("detectors") / "answers.json").read_text())[method]
    images = np.load(folder / "images.npy")
    detector = OneClassDetector.load(folder)
    assert type(detector) is METHODS[method]
    np.testing.assert_allclose(detector.score(images), answers["score"], rtol=1e-4, atol=1e-6)
    assert detector.predict(images).tolist() == answers["predict"]
    assert detector.threshold == answers["threshold"]
    assert detector.makes_maps == ("map_means" in answers)
    if detector.makes_maps:
        maps = detector.anomaly_map(images)
        np.testing.assert_allclose(maps.mean((1, 2)), answers["map_means"], rtol=1e-4)
        assert [len(boxes) for boxes in detector.boxes(images)] == answers["boxes"]
        assert detector.pixel_threshold == answers["pixel_threshold"]
    again = OneClassDetector.load(detector.save(tmp_path))
    np.testing.assert_array_equal(again.score(images), detector.score(images))


def test_settings_that_are_gone(saved, tmp_path):
    folder = saved("detectors") / "memae"
    config = json.loads((folder / "config.json").read_text())
    assert config["settings"]["svdd_weight"] == 0
    assert config["settings"]["patience"] is None
    assert not {"svdd_weight", "patience"} & OneClassDetector.load(folder).get_config().keys()
    (tmp_path / config["weights"]["file"]).touch()
    for name, value in (("svdd_weight", 0.01), ("patience", 3)):
        changed = {**config["settings"], name: value}
        with pytest.raises(InputError, match=rf"^{name} must be .* memae has it no more; rec") as e:
            METHODS["memae"].from_config(changed)
        assert "\n" not in str(e.value)


def test_a_run_of_anomaly_train(saved):
    run = Run(saved("detector_run"))
    before = json.loads((run.path / "metrics.json").read_text())
    assert load_detector(run).method == "deep_svdd"
    metrics = evaluate_detector(run)
    for name in ("auroc", "aupr", "f1"):
        assert metrics[name] == pytest.approx(before[name], abs=1e-3)
    assert (run.path / "report" / "anomaly.html").is_file()


@pytest.mark.slow
def test_a_run_of_robustcls_train(saved):
    run = Run(saved("classifier_run"))
    assert run.trained == ["base"]
    model = keras.models.load_model(run.folder("base") / "model.keras")
    images = load("fashion_mnist_mini").test.take(slice(0, 4)).float_images()
    logits = json.loads((run.path / "logits.json").read_text())
    np.testing.assert_allclose(model.predict(images, verbose=0), logits, rtol=1e-3, atol=1e-4)
