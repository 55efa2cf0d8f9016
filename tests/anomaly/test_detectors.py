"""The contract of every detector; a new method is in these tests with its registration."""

import gc
import itertools
import json
import signal
import subprocess
import sys
import weakref

import keras
import numpy as np
import pytest
import tensorflow as tf
from sklearn.metrics import roc_auc_score

from anomaly import OneClassDetector
from anomaly.detection.registry import METHODS, detector_class
from anomaly.detection.training import Training
from robustcls import AugmentationPolicy, InputError, save_classifier
from robustcls._stopping import Stopped, stopping_on_signals
from robustcls.serving.checking.fresh_process import check_case, read_cases
from robustcls.serving.exports.cases import CASES_FILE
from robustcls.training.checkpoints import EpochCheckpoint

pytestmark = pytest.mark.usefixtures("few_blocks")

SHAPE = (28, 28, 1)
NOISE = AugmentationPolicy.from_config(
    AugmentationPolicy.none().get_config() | {"noise_probability": 1, "gaussian_stddev": 0.02}
)
# Enough to tell the fixtures apart, in seconds, and two epochs at least of each last stage.
QUICK = {
    "autoencoder": {"epochs": 8, "learning_rate": 0.008},
    "deep_sad": {"pretraining_epochs": 2, "epochs": 8, "learning_rate": 0.005},
    "deep_svdd": {"pretraining_epochs": 4, "epochs": 4, "learning_rate": 0.005},
    "ebgan": {"pretraining_epochs": 6, "epochs": 2, "learning_rate": 0.004},
    "memae": {"epochs": 8, "learning_rate": 0.008},
    "ognet": {"epochs": 2, "iterations": 6, "width": 0.0625},
    "one_class_svm": {},
    "patch_memory": {"weights": "random", "resize_to": 32, "layers": ("block_2_add",)},
}
TRAINED = sorted(name for name in METHODS if detector_class(name).counts_epochs)


def make(method, **settings):
    """A detector that trains in seconds."""
    defaults = {"image_shape": SHAPE, "batch_size": 32}
    if method in TRAINED:
        defaults["augmentation"] = NOISE
    return detector_class(method)(**defaults | QUICK.get(method, {}) | settings)


@pytest.fixture(scope="session")
def fitted_all(normal_images, anomalies, tmp_path_factory):
    """Detectors by method, fitted on first use and kept."""
    known = {}

    def get(method):
        if method not in known:
            folder = tmp_path_factory.mktemp(method) / "fit"
            known[method] = (
                make(method).fit(
                    normal_images,
                    anomalies=anomalies if method == "deep_sad" else None,
                    folder=folder,
                    verbose=0,
                ),
                folder,
            )
        return known[method]

    return get


@pytest.fixture(params=METHODS)
def method(request):
    return request.param


# The first trains as deep_sad does; the others have their training in files of their own.
ALIKE = ("deep_svdd", "ebgan", "ognet")


@pytest.fixture(
    params=[pytest.param(m, marks=[pytest.mark.long] if m in ALIKE else []) for m in METHODS]
)
def fitted(request, fitted_all):
    return fitted_all(request.param)[0]


@pytest.fixture
def plain(fitted_all):
    """For what does not depend on the method."""
    return fitted_all("autoencoder")[0]


def test_defects_score_higher(fitted, other_normal_images, defective_images):
    normal, defective = fitted.score(other_normal_images), fitted.score(defective_images)
    assert normal.dtype == np.float32
    assert normal.shape == (300,)
    assert len(np.unique(normal)) > 290
    labels = np.repeat([0, 1], [300, 40])
    # Old is Gold needs more steps than a test has; the benchmarks show what it learns.
    if fitted.method != "ognet":
        assert roc_auc_score(labels, np.concatenate([normal, defective])) > 0.95
    alarms = fitted.predict(other_normal_images)
    assert alarms.dtype == bool
    np.testing.assert_array_equal(alarms, normal > np.float32(fitted.threshold))
    # 26 held-out images set it: one in a hundred such thresholds gives more than 16 %.
    assert alarms.mean() < 0.25


@pytest.mark.parametrize("method", ["autoencoder", "memae"])
def test_defects_are_found_where_they_are(
    method, fitted_all, other_normal_images, defective_images
):
    """The square is in rows 8 to 13 and columns 12 to 17."""
    fitted = fitted_all(method)[0]
    maps = fitted.anomaly_map(defective_images)
    assert maps.dtype == np.float32
    assert maps.shape == (40, 28, 28)
    assert maps.min() >= 0
    inside = maps[:, 8:14, 12:18].mean()
    for boxes in fitted.boxes(defective_images):
        best = boxes[0]
        assert (best.left, best.top) <= (13, 9)
        assert (best.right, best.bottom) >= (17, 13)
        assert best.score > fitted.pixel_threshold
    maps[:, 6:16, 10:20] = 0
    assert inside > 3 * maps.sum() / (40 * (28 * 28 - 100))
    assert np.mean([len(boxes) > 0 for boxes in fitted.boxes(other_normal_images)]) < 0.25


# The others export what one of these does.
EXPORTED = dict.fromkeys(METHODS, pytest.mark.exhaustive)
EXPORTED |= dict.fromkeys(("memae", "patch_memory"), pytest.mark.long)
EXPORTED |= dict.fromkeys(("autoencoder", "one_class_svm"), ())


@pytest.mark.parametrize(
    "fitted",
    [pytest.param(method, marks=EXPORTED[method]) for method in METHODS],
    indirect=True,
)
def test_an_export_answers_as_the_detector_does(fitted, other_normal_images, tmp_path):
    images = other_normal_images[:9]
    version = fitted.export(tmp_path, images=np.round(images * 255).astype(np.uint8), name="waves")
    loaded = tf.saved_model.load(str(version))
    with pytest.raises(InputError, match="images must be of shape"):
        fitted.export(tmp_path, images=np.zeros((9, 14, 14, 1), np.uint8))
    scores, limit = fitted.score(images), np.median(fitted.score(images))
    asked = np.array([np.nan, limit] * 4 + [limit], np.float32)
    answer = loaded.signatures["detect"](images=tf.constant(images), threshold=tf.constant(asked))
    used = np.where(np.isnan(asked), np.float32(fitted.threshold), asked)
    np.testing.assert_allclose(answer["score"], scores, rtol=1e-5)
    np.testing.assert_allclose(answer["threshold"], used)
    np.testing.assert_array_equal(answer["is_anomaly"], answer["score"].numpy() > used)
    maps = "anomaly_map" in loaded.signatures
    assert maps == fitted.makes_maps
    if maps:
        found = loaded.signatures["anomaly_map"](images=tf.constant(images))["anomaly_map"]
        np.testing.assert_allclose(found, fitted.anomaly_map(images), atol=1e-5)
    checks = [
        check
        for name, (inputs, expected) in read_cases(version / CASES_FILE).items()
        for check in check_case(name, loaded.signatures[name], inputs, expected, 1e-5)
    ]
    failed = [check["check"] for check in checks if not check["passed"]]
    assert not failed, checks
    assert len(checks) > 15


def test_an_image_scores_the_same_in_any_company(fitted, other_normal_images, defective_images):
    images = np.concatenate([other_normal_images[:40], defective_images[:5]])
    scores = fitted.score(images)
    close = {"rtol": 1e-5, "atol": 1e-6}
    np.testing.assert_allclose(fitted.score(images, batch_size=7), scores, **close)
    np.testing.assert_allclose(fitted.score(images[::-1])[::-1], scores, **close)
    np.testing.assert_allclose(fitted.score(images[3:4]), scores[3:4], **close)
    np.testing.assert_array_equal(fitted.score(images), scores)
    if fitted.makes_maps:
        maps = fitted.anomaly_map(images)
        np.testing.assert_allclose(fitted.anomaly_map(images, batch_size=7), maps, atol=1e-5)
    if hasattr(fitted, "reconstruct"):
        reconstructions = fitted.reconstruct(images)
        np.testing.assert_allclose(
            np.linalg.norm(images - reconstructions, axis=-1), maps, rtol=1e-4, atol=1e-6
        )
    features = fitted.encode(images[:9])
    assert features.dtype == np.float32
    assert features.shape[0] == 9
    assert features.ndim == 2
    assert np.ptp(features, axis=0).max() > 0
    np.testing.assert_allclose(fitted.encode(images[:9], batch_size=2), features, atol=1e-4)


def test_further_detectors_are_no_retracing(normal_images, caplog):
    for seed in range(6):
        detector = make("one_class_svm", seed=seed).fit(normal_images, verbose=0)
        detector.score(normal_images[:3])
        detector.score(normal_images[:7])
    assert "retracing" not in caplog.text


@pytest.mark.parametrize("method", ["autoencoder", "one_class_svm"])
def test_calibration(method, fitted_all, tmp_path, other_normal_images):
    detector = OneClassDetector.load(fitted_all(method)[0].save(tmp_path))
    assert detector.calibrate(other_normal_images, 0.2) is detector
    assert detector.false_alarm_rate == 0.2
    # The ⌈301 · 0.8⌉ = 241st of its own scores is the threshold.
    assert detector.predict(other_normal_images).sum() == 59
    assert detector.calibrate(other_normal_images).predict(other_normal_images).sum() == 59
    if method == "autoencoder":
        assert sum(len(boxes) > 0 for boxes in detector.boxes(other_normal_images)) == 59
    with pytest.raises(InputError, match="at least 999 normal images"):
        detector.calibrate(other_normal_images, 0.001)
    assert detector.false_alarm_rate == 0.2


@pytest.mark.parametrize("method", ["one_class_svm"])
def test_validation_images_set_the_threshold_and_nothing_else(
    method, normal_images, other_normal_images
):
    low = make(method).fit(normal_images, validation=other_normal_images[:150], verbose=0)
    high = make(method).fit(
        normal_images, validation=np.clip(2 * other_normal_images[150:], 0, 1), verbose=0
    )
    np.testing.assert_array_equal(low.score(normal_images), high.score(normal_images))
    assert high.threshold > low.threshold
    assert low.predict(other_normal_images[:150]).sum() == 6


@pytest.mark.parametrize("shape", [(32, 32, 3), (45, 33, 1)])
def test_sizes_and_colours(method, shape):
    detector = make(method, image_shape=shape)
    detector.networks = detector.build()
    images = tf.constant(np.random.default_rng(0).random((3, *shape), np.float32))
    assert detector.score_batch(images).shape == (3,)
    assert np.isfinite(detector.encode_batch(images)).all()
    if detector.makes_maps:
        assert detector.anomaly_map_batch(images).shape == (3, *shape[:2])
    again = type(detector).from_config(json.loads(json.dumps(detector.get_config())))
    assert again.get_config() == detector.get_config()


# Saving.

LOAD = """
import sys, numpy as np, anomaly
for name in sys.argv[1:]:
    detector = anomaly.OneClassDetector.load(name)
    images = np.load("images.npy")
    np.savez(name + ".npz", scores=detector.score(images), features=detector.encode(images),
             alarms=detector.predict(images))
"""


@pytest.mark.long
def test_another_process_gives_the_same_scores(
    fitted_all, tmp_path, defective_images, normal_images
):
    images = np.concatenate([defective_images[:9], normal_images[:30]])
    np.save(tmp_path / "images.npy", images)
    for method in METHODS:
        assert fitted_all(method)[0].save(tmp_path / method) == tmp_path / method
        for file in (tmp_path / method).iterdir():
            assert b"pickle" not in file.read_bytes()
    command = [sys.executable, "-c", LOAD, *METHODS]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for method in METHODS:
        fitted = fitted_all(method)[0]
        with np.load(tmp_path / f"{method}.npz") as found:
            np.testing.assert_allclose(found["scores"], fitted.score(images), rtol=1e-5)
            np.testing.assert_allclose(found["features"], fitted.encode(images), atol=1e-5)
            np.testing.assert_array_equal(found["alarms"], fitted.predict(images))


@pytest.mark.long
def test_plain_keras_loads_all_networks(fitted_all, tmp_path, normal_images):
    names, drawn = [], np.random.default_rng(0)
    for method in METHODS:
        for name, network in fitted_all(method)[0].networks.items():
            path = tmp_path / f"{method}-{name}.keras"
            save_classifier(network, path)
            inputs = normal_images[:2]
            if network.input_shape[1:] != SHAPE:
                inputs = drawn.random((2, *network.input_shape[1:]), np.float32)
            outputs = keras.tree.flatten(network(inputs))
            np.savez(path.with_suffix(".npz"), inputs, *outputs)
            names.append(path.stem)
    code = """
import pathlib, sys
import keras, numpy as np
for path in sorted(pathlib.Path(".").glob("*.keras")):
    inputs, *expected = np.load(path.with_suffix(".npz")).values()
    found = keras.tree.flatten(keras.models.load_model(path)(inputs))
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=5e-6 * max(1, np.abs(b).max()))
    print(path.stem, "anomaly" in sys.modules, "robustcls" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [f"{name} False False" for name in sorted(names)]


def test_save_and_load_keep_everything(fitted, tmp_path, normal_images):
    fitted.save(tmp_path)
    loaded = type(fitted).load(tmp_path)
    assert type(loaded) is type(fitted)
    assert loaded.get_config() == fitted.get_config()
    for name in fitted.threshold_names:
        assert getattr(loaded, name) == getattr(fitted, name)
    np.testing.assert_array_equal(loaded.score(normal_images), fitted.score(normal_images))


def test_a_save_replaces_the_one_before_or_leaves_it_whole(
    plain, fitted_all, tmp_path, normal_images, monkeypatch
):
    plain.save(tmp_path)
    other = fitted_all("one_class_svm")[0]

    def fail(*_):
        raise InputError("No space left on device.")

    with monkeypatch.context() as patch:
        patch.setattr("anomaly.detection.saving.write_sealed", fail)
        with pytest.raises(InputError, match="No space"):
            other.save(tmp_path)
    kept = OneClassDetector.load(tmp_path)
    np.testing.assert_array_equal(kept.score(normal_images), plain.score(normal_images))
    other.save(tmp_path)
    loaded = OneClassDetector.load(tmp_path)
    np.testing.assert_array_equal(loaded.score(normal_images), other.score(normal_images))
    plain.save(tmp_path / "fresh")
    assert len(list((tmp_path / "fresh").iterdir())) == 2


def test_files_that_are_no_detector(plain, tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        OneClassDetector.load(tmp_path / "none")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text('{"train": {}}')
    with pytest.raises(InputError, match="something else's"):
        OneClassDetector.load(tmp_path / "run")
    with pytest.raises(InputError, match="something else's"):
        plain.save(tmp_path / "run")
    assert (tmp_path / "run" / "config.json").read_text() == '{"train": {}}'
    assert len(list((tmp_path / "run").iterdir())) == 1

    config = plain.save(tmp_path / "saved") / "config.json"
    good = json.loads(config.read_text())
    config.write_text(json.dumps(good | {"version": 99, "versions": {"robustcls": "7.0"}}))
    with pytest.raises(InputError, match=r"format 1; .* format 99, saved by robustcls 7\.0"):
        OneClassDetector.load(tmp_path / "saved")
    config.write_text(json.dumps(good | {"method": "psychic"}))
    with pytest.raises(InputError, match="method must be one of"):
        OneClassDetector.load(tmp_path / "saved")
    config.write_text(json.dumps(good))
    weights = tmp_path / "saved" / good["weights"]["file"]
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(InputError, match="missing or damaged"):
        OneClassDetector.load(tmp_path / "saved")
    weights.unlink()
    with pytest.raises(InputError, match="missing or damaged"):
        OneClassDetector.load(tmp_path / "saved")


def test_a_detector_of_another_method_is_refused(plain, tmp_path):
    plain.save(tmp_path)
    with pytest.raises(InputError, match=f"detector of ognet; .* holds {plain.method}"):
        detector_class("ognet").load(tmp_path)


# Checkpoints.


# All train by one loop; OGNet in several stages.
STOPPED = [
    pytest.param("autoencoder", None, marks=pytest.mark.long),
    *(
        pytest.param(method, stage, marks=pytest.mark.exhaustive)
        for method in TRAINED
        for stage in ((None, "2_generator") if method == "ognet" else (None,))
        if method != "autoencoder"
    ),
]


@pytest.mark.parametrize(("method", "stage"), STOPPED)
def test_an_interrupted_fit_goes_on_to_the_same_result(
    method, stage, fitted_all, normal_images, anomalies, tmp_path, monkeypatch
):
    """Told to end in the first epoch of its last stage, or of the one that is named."""
    # With noise and shuffling, so that a resumed epoch which draws others is found out.
    whole, folder = fitted_all(method)
    last = stage or sorted(path.parent.name for path in folder.glob("*/history.csv"))[-1]
    original = EpochCheckpoint.on_train_batch_end

    def interrupt(self, batch, logs=None):
        if self.folder.name == last and not self.history and batch == 1:
            signal.raise_signal(signal.SIGTERM)
        original(self, batch, logs)

    known = {"anomalies": anomalies if method == "deep_sad" else None}
    broken = make(method)
    with monkeypatch.context() as patch, stopping_on_signals():
        patch.setattr(EpochCheckpoint, "on_train_batch_end", interrupt)
        with pytest.raises(Stopped) as stopped:
            broken.fit(normal_images, folder=tmp_path / "broken", verbose=0, **known)
    assert stopped.value.kept == f"everything up to batch 2 of epoch 1 of {last}"
    with pytest.raises(InputError, match="must be fitted before score"):
        broken.score(normal_images)
    with pytest.raises(InputError, match="holds a run"):
        broken.fit(normal_images, folder=tmp_path / "broken", verbose=0, **known)
    for changed, images in ({"batch_size": 16}, normal_images), ({}, normal_images[1:]):
        with pytest.raises(InputError, match="must stay"):
            make(method, **changed).fit(
                images, folder=tmp_path / "broken", resume=True, verbose=0, **known
            )
    broken.fit(normal_images, folder=tmp_path / "broken", resume=True, verbose=0, **known)
    np.testing.assert_allclose(
        broken.score(normal_images), whole.score(normal_images), rtol=1e-4, atol=1e-5
    )
    histories = [
        np.loadtxt(place / last / "history.csv", delimiter=",", skiprows=1)
        for place in (folder, tmp_path / "broken")
    ]
    assert len(histories[0]) >= 2
    np.testing.assert_allclose(histories[0], histories[1], rtol=1e-3, atol=1e-5)


# Bad input.


def test_nothing_but_fit_works_before_fit(normal_images, tmp_path):
    detector = make("autoencoder")
    assert np.isnan(detector.threshold)
    for name in ("score", "predict", "anomaly_map", "encode", "boxes"):
        with pytest.raises(InputError, match="detector must be fitted before"):
            getattr(detector, name)(normal_images)
    with pytest.raises(InputError, match="fitted before save"):
        detector.save(tmp_path / "saved")
    assert not (tmp_path / "saved").exists()


def with_nan(images):
    images = images.copy()
    images[7, 3, 3] = np.nan
    return images


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda images: images[:0], "non-empty"),
        (lambda images: [], "non-empty"),
        (lambda images: images[0], "non-empty array"),
        (lambda images: images[:, :27], r"shape \[N, 28, 28, 1\]; received \(256, 27, 28, 1\)"),
        (lambda images: np.repeat(images, 3, -1), r"shape \[N, 28, 28, 1\]"),
        (with_nan, "NaN or infinity in 1 of 256"),
        (lambda images: (255 * images).astype(np.uint8), r"astype\('float32'\) / 255"),
        (lambda images: 255 * images, r"be in \[0, 1\]"),
        (lambda images: np.array(["cat.png"] * 60), "non-empty array"),
    ],
)
def test_unusable_images(plain, normal_images, spoil, message):
    images = spoil(normal_images)
    unfitted, takes_anomalies = make("autoencoder"), make("deep_sad")
    for argument, call in (
        ("normal_images", lambda: unfitted.fit(images)),
        ("validation", lambda: unfitted.fit(normal_images, validation=images)),
        ("anomalies", lambda: takes_anomalies.fit(normal_images, anomalies=images)),
        ("images", lambda: plain.score(images)),
        ("images", lambda: plain.predict(images)),
        ("images", lambda: plain.anomaly_map(images)),
        ("images", lambda: plain.calibrate(images)),
    ):
        with pytest.raises(InputError, match=rf"^{argument} must .*{message}") as caught:
            call()
        assert "\n" not in str(caught.value)


def test_normal_images_that_do_not_do(plain, normal_images, other_normal_images):
    detector = make("autoencoder")
    with pytest.raises(InputError, match="must differ; all 100 are the same"):
        detector.fit(np.repeat(normal_images[:1], 100, axis=0))
    with pytest.raises(InputError, match=r"at least 38 .*; received 30"):
        detector.fit(normal_images[:30])
    with pytest.raises(InputError, match=r"batch_size must be at most .* 21; received 32"):
        detector.fit(normal_images[:40])
    with pytest.raises(InputError, match=r"validation must be at least 19 .*; received 18"):
        detector.fit(normal_images, validation=other_normal_images[:18])
    with pytest.raises(InputError, match="batch_size must be an integer"):
        plain.score(normal_images, batch_size=0)
    with pytest.raises(InputError, match="anomalies must be None"):
        detector.fit(normal_images, anomalies=other_normal_images)
    known = np.concatenate([other_normal_images[:3], normal_images[-2:]])
    with pytest.raises(InputError, match="not be among the normal images; 2 of 5 are"):
        make("deep_sad").fit(normal_images, anomalies=known)
    with pytest.raises(InputError, match="not be among the normal images; 3 of 5 are"):
        make("ebgan").fit(normal_images[:60], validation=other_normal_images, anomalies=known)


@pytest.mark.parametrize(
    "settings",
    [
        {"image_shape": (28, 28)},
        {"image_shape": (28, 28, 2)},
        {"image_shape": (8, 28, 1)},
        {"image_shape": (28.5, 28, 1)},
        {"image_shape": "28"},
        {"epochs": 0},
        {"epochs": 1.5},
        {"batch_size": 1},
        {"seed": -1},
        {"false_alarm_rate": 0},
        {"false_alarm_rate": 5},
        {"augmentation": "strong"},
        {"augmentation": {"gaussian_stdev": 1}},
        {"nonsense": 1},
    ],
)
def test_settings_out_of_range(method, settings):
    (name,) = settings
    with pytest.raises(InputError, match=name) as caught:
        detector_class(method).from_config({"image_shape": SHAPE} | settings)
    assert "\n" not in str(caught.value)


# The SVM everywhere, the autoencoder in CI.
MARKS = {"mixed_bfloat16": pytest.mark.long, "float64": pytest.mark.exhaustive}


@pytest.mark.parametrize(
    ("method", "policy"),
    [
        pytest.param(
            name,
            policy,
            marks={"one_class_svm": (), "autoencoder": mark}.get(name, pytest.mark.exhaustive),
        )
        for name, (policy, mark) in itertools.product(METHODS, MARKS.items())
    ],
)
def test_detectors_are_the_same_under_every_policy(
    method, policy, tmp_path, normal_images, anomalies
):
    usual = {"epochs": 2, "pretraining_epochs": 1, "iterations": 2, "code_neighbors": 2}
    known = detector_class(method).__dataclass_fields__
    taken = {name: value for name, value in usual.items() if name in known}
    if method not in TRAINED:
        del taken["epochs"]
    taken |= {"false_alarm_rate": 0.3, "batch_size": 8}
    images, found = normal_images[:24], []
    for name in ("float32", policy):
        keras.config.set_dtype_policy(name)
        try:
            bad = anomalies if method == "deep_sad" else None
            detector = make(method, augmentation=None, **taken)
            detector.fit(images, anomalies=bad, verbose=0)
            again = OneClassDetector.load(detector.save(tmp_path / name))
            found.append(detector.score(images))
            np.testing.assert_array_equal(again.score(images), found[-1])
            assert keras.config.dtype_policy().name == name
        finally:
            keras.config.set_dtype_policy("float32")
    assert found[1].dtype == np.float32
    np.testing.assert_allclose(found[1], found[0], rtol=1e-4)


def test_image_shape_is_required(method):
    with pytest.raises(InputError, match="must have image_shape"):
        detector_class(method).from_config({})


def test_a_training_that_diverges_says_so(normal_images, monkeypatch):
    detector = make("one_class_svm")

    def diverge(self, training: Training):
        for network in self.networks.values():
            network.set_weights([np.full_like(w, np.nan) for w in network.get_weights()])

    monkeypatch.setattr(type(detector), "train", diverge)
    with pytest.raises(InputError, match="the training diverged"):
        detector.fit(normal_images, verbose=0)
    with pytest.raises(InputError, match="fitted before"):
        detector.score(normal_images)


@pytest.mark.long
def test_a_training_leaves_no_images_behind(normal_images, other_normal_images):
    images = normal_images.copy()
    watched = weakref.ref(images)
    detector = make("autoencoder", epochs=1)
    detector.fit(images, validation=other_normal_images, verbose=0)
    del images
    gc.collect()
    assert watched() is None
