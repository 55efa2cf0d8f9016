"""A detector of one's own in one class of one file, and all that comes with it."""

import copy
import json
import pickle
import sys

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from anomaly import OneClassDetector, cli
from anomaly.detection.registry import METHODS
from anomaly.experiments.benchmark import run_benchmark
from anomaly.experiments.config import BenchmarkConfig
from robustcls import InputError
from robustcls.serving.checking.fresh_process import check_case, read_cases
from robustcls.serving.checking.parity import CASES_FILE

MODULE = '''
"""How far each pixel is from the mean of the normal images, in powers of its own."""

from dataclasses import dataclass
from typing import ClassVar

import keras
import tensorflow as tf

from anomaly.detection.maps import MapDetector
from robustcls._validation import check_number


@dataclass(kw_only=True, eq=False)
class MeanImage(MapDetector):
    method: ClassVar[str] = "mean_image"

    power: float = 1.0

    def __post_init__(self):
        super().__post_init__()
        check_number("power", self.power, above=0)

    def build(self):
        images = keras.Input(self.image_shape, name="images")
        layer = keras.layers.Normalization(axis=(1, 2, 3), name="mean")
        return {"mean": keras.Model(images, layer(images))}

    def train(self, training):
        self.networks["mean"].get_layer("mean").adapt(training.images)
        if training.watch is not None:
            training.watch("mean", 1)

    def anomaly_map_batch(self, images):
        distances = tf.abs(self.networks["mean"](images))
        return tf.reduce_mean(tf.minimum(distances, 100.0), -1) ** self.power

    def score_batch(self, images):
        return tf.reduce_max(self.anomaly_map_batch(images), [1, 2])
'''
SHAPE = (16, 16, 1)


def draw(count, seed, square=False):
    images = np.random.default_rng(seed).uniform(0.4, 0.6, (count, *SHAPE))
    if square:
        images[:, 4:9, 6:11] = 1
    return images.astype(np.float32)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A folder with the user's module and images of two classes."""
    root = tmp_path_factory.mktemp("project")
    (root / "my_detectors.py").write_text(MODULE)
    for part, seed in (("train", 0), ("test", 1)):
        for name in ("defect", "plain"):
            folder = root / "images" / part / name
            folder.mkdir(parents=True)
            for number, image in enumerate(draw(60, seed, square=name == "defect")):
                pixels = (255 * image[..., 0]).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")
    return root


@pytest.fixture
def here(project, monkeypatch):
    monkeypatch.chdir(project)
    monkeypatch.syspath_prepend(str(project))
    return project


@pytest.fixture
def method(here):
    import my_detectors

    return my_detectors.MeanImage


@pytest.fixture
def fitted(method):
    return method(image_shape=SHAPE, power=2).fit(draw(100, 0), verbose=0)


def test_it_is_a_detector_as_the_others(fitted, tmp_path):
    assert METHODS["mean_image"] is type(fitted)
    normal, defective = draw(50, 2), draw(20, 3, square=True)
    assert fitted.score(defective).min() > fitted.score(normal).max()
    assert fitted.predict(defective).all()
    for best, *_ in fitted.boxes(defective):
        assert (best.left, best.top) <= (6, 4)
        assert (best.right, best.bottom) >= (11, 9)
    assert fitted.encode(normal).shape == (50, 16 * 16)
    loaded = OneClassDetector.load(fitted.save(tmp_path))
    assert loaded.power == 2
    for again in (loaded, copy.deepcopy(fitted), pickle.loads(pickle.dumps(fitted))):
        assert type(again) is type(fitted)
        assert again.threshold == fitted.threshold
        assert again.pixel_threshold == fitted.pixel_threshold
        np.testing.assert_array_equal(again.score(normal), fitted.score(normal))


def test_its_export_answers_as_it_does(fitted, tmp_path):
    version = fitted.export(tmp_path)
    loaded = tf.saved_model.load(str(version))
    assert {"detect", "anomaly_map", "boxes"} <= set(loaded.signatures)
    for name, (inputs, expected) in read_cases(version / CASES_FILE).items():
        for check in check_case(name, loaded.signatures[name], inputs, expected, 1e-5):
            assert check["passed"], check


def test_the_command_line(here, tmp_path, capfd):
    run = str(tmp_path / "run")
    mine = ["--import", "my_detectors"]
    given = ["train", "--method", "mean_image", "--data", "images", "--normal-class", "plain"]
    cli.main([*mine, *given, "--settings.batch_size", "16", "--settings.power", "2", "--out", run])
    cli.main([*mine, "evaluate", run])
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["auroc"] > 0.99
    for page in ("anomaly.html", "images.html"):
        assert "mean_image" in (tmp_path / "run" / "report" / page).read_text()
    files = ["--images", "images/test/defect", "--out", str(tmp_path / "boxes")]
    cli.main([*mine, "boxes", run, *files])
    assert all(entry["boxes"] for entry in json.loads((tmp_path / "boxes/boxes.json").read_text()))
    cli.main([*mine, "export", run, "--out", str(tmp_path / "export")])
    assert "mean_image" in (tmp_path / "export" / "1" / "MODEL_CARD.md").read_text()
    with pytest.raises(SystemExit):
        cli.main([*mine, "train", "--help"])
    assert "mean_image" in capfd.readouterr().out
    with pytest.raises(SystemExit):
        cli.main([*mine, *given, "--settings.power", "0", "--out", str(tmp_path / "bad")])
    assert "power must be a number > 0; received 0" in capfd.readouterr().err


def test_the_benchmark(method, here, tmp_path):
    config = BenchmarkConfig(
        data="images",
        methods=["mean_image", "mean_image@squared"],
        classes=[1],
        seeds=1,
        settings={
            "mean_image": {"batch_size": 16},
            "mean_image@squared": {"batch_size": 16, "power": 2},
        },
    )
    run = run_benchmark(config, tmp_path / "run", verbose=0)
    assert "mean_image@squared" in (run.path / "results.md").read_text()


# Bad input.


def test_a_hook_that_is_missing_is_named():
    with pytest.raises(InputError, match=r"method half must define score_batch, train") as caught:

        class Half(OneClassDetector):
            method = "half"

            def build(self):
                return {}

    assert "\n" not in str(caught.value)
    assert "half" not in METHODS


def test_a_name_that_is_taken_is_refused(method):
    for name in ("memae", "mean_image"):
        with pytest.raises(InputError, match=rf"must be new; '{name}' is .* already") as caught:
            type("Other", (method,), {"method": name, "__module__": __name__})
        assert "\n" not in str(caught.value)
    assert METHODS["mean_image"] is method


def test_a_subclass_needs_a_name_of_its_own_to_be_saved(method, tmp_path):
    class Renamed(method):
        pass

    detector = Renamed(image_shape=SHAPE).fit(draw(100, 0), verbose=0)
    with pytest.raises(InputError, match="Renamed must have a method of its own to be saved"):
        detector.save(tmp_path)


def test_settings_without_the_decorator_are_named(method):
    class Forgotten(method):
        strength: float = 1.0

    with pytest.raises(InputError, match=r"Forgotten must be decorated with @dataclass.* strength"):
        Forgotten(image_shape=SHAPE)


def test_a_detector_whose_module_is_not_imported(fitted, tmp_path, monkeypatch):
    folder = fitted.save(tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"method": "elsewhere"}))
    with pytest.raises(InputError, match=r"holds 'elsewhere'\. Import the module that defines it"):
        OneClassDetector.load(folder)


def test_a_class_that_changed_since_it_was_saved(fitted, tmp_path, monkeypatch):
    folder = fitted.save(tmp_path)
    build = type(fitted).build
    monkeypatch.setattr(type(fitted), "build", lambda self: {"other": build(self)["mean"]})
    with pytest.raises(InputError, match="weights that mean_image builds now"):
        OneClassDetector.load(folder)


@pytest.fixture(scope="module", autouse=True)
def _forget():
    """The registry as it was, for tests of the same process."""
    yield
    for table in (METHODS._places, METHODS._found):
        table.pop("mean_image", None)
    sys.modules.pop("my_detectors", None)
