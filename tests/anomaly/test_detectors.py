"""The contract of every detector; a new method is in these tests once it is in METHODS."""

import json
import subprocess
import sys

import keras
import numpy as np
import pytest

from anomaly import OneClassDetector
from anomaly.methods import METHODS, detector_class
from anomaly.training import Training
from robustcls import AugmentationPolicy, InputError

SHAPE = (28, 28, 1)
QUICK = {"autoencoder": {"epochs": 12, "batch_size": 32, "learning_rate": 0.005}}


def make(method, **settings):
    """A detector that trains in seconds, and enough to tell the fixtures apart."""
    return detector_class(method)(**{"image_shape": SHAPE} | QUICK[method] | settings)


@pytest.fixture(scope="module", params=METHODS)
def method(request):
    return request.param


@pytest.fixture(scope="module")
def fitted(method, normal_images):
    return make(method).fit(normal_images, verbose=0)


def test_defects_score_higher_and_are_found_where_they_are(
    fitted, other_normal_images, defective_images
):
    normal, defective = fitted.score(other_normal_images), fitted.score(defective_images)
    assert normal.dtype == np.float32
    assert normal.shape == (300,)
    assert len(np.unique(normal)) > 290
    assert defective.min() > normal.max()
    assert fitted.predict(defective_images).all()
    maps = fitted.anomaly_map(defective_images)
    assert maps.dtype == np.float32
    assert maps.shape == (40, 28, 28)
    assert maps.min() >= 0
    inside = maps[:, 8:14, 12:18].mean()
    maps[:, 6:16, 10:20] = 0
    assert inside > 3 * maps.sum() / (40 * (28 * 28 - 100))


def test_predictions_are_scores_above_the_threshold(fitted, other_normal_images):
    scores, alarms = fitted.score(other_normal_images), fitted.predict(other_normal_images)
    assert alarms.dtype == bool
    np.testing.assert_array_equal(alarms, scores > fitted.threshold)
    # 25 held-out images set it: up to four in ten of their thresholds give 5 to 15 %.
    assert fitted.threshold > 0
    assert alarms.mean() < 0.2
    assert scores.min() < fitted.threshold


def test_boxes_are_around_the_defects(fitted, other_normal_images, defective_images):
    """The square is in rows 8 to 13 and columns 12 to 17."""
    for boxes in fitted.boxes(defective_images):
        best = boxes[0]
        left, top = max(best.left, 12), max(best.top, 8)
        right, bottom = min(best.right, 18), min(best.bottom, 14)
        shared = max(right - left, 0) * max(bottom - top, 0)
        area = (best.right - best.left) * (best.bottom - best.top)
        assert shared / (area + 36 - shared) > 0.4
        assert best.score > fitted.pixel_threshold
    assert np.mean([len(boxes) > 0 for boxes in fitted.boxes(other_normal_images)]) < 0.25


def test_an_image_scores_the_same_in_any_company(fitted, other_normal_images, defective_images):
    images = np.concatenate([other_normal_images[:40], defective_images[:5]])
    scores = fitted.score(images)
    close = {"rtol": 1e-5, "atol": 1e-7}
    np.testing.assert_allclose(fitted.score(images, batch_size=7), scores, **close)
    np.testing.assert_allclose(fitted.score(images[::-1])[::-1], scores, **close)
    np.testing.assert_allclose(fitted.score(images[3:4]), scores[3:4], **close)
    np.testing.assert_allclose(
        fitted.anomaly_map(images, batch_size=7), fitted.anomaly_map(images), atol=1e-5
    )
    np.testing.assert_array_equal(fitted.score(images), scores)


def test_features(fitted, other_normal_images):
    features = fitted.encode(other_normal_images[:9])
    assert features.dtype == np.float32
    assert features.shape[0] == 9
    assert features.ndim == 2
    assert np.ptp(features, axis=0).max() > 0
    np.testing.assert_allclose(
        fitted.encode(other_normal_images[:9], batch_size=2), features, atol=1e-5
    )


def test_the_seed_decides(method, normal_images, fitted, other_normal_images):
    again = make(method).fit(normal_images, verbose=0)
    np.testing.assert_allclose(
        again.score(other_normal_images), fitted.score(other_normal_images), rtol=1e-4
    )
    assert again.threshold == pytest.approx(fitted.threshold, rel=1e-4)
    other = make(method, seed=1, epochs=1).fit(normal_images, verbose=0)
    assert abs(other.score(other_normal_images) / again.score(other_normal_images) - 1).max() > 0.01


def test_a_second_fit_starts_from_nothing(method, normal_images, other_normal_images):
    once = make(method, epochs=1).fit(normal_images, verbose=0)
    twice = make(method, epochs=1).fit(other_normal_images, verbose=0).fit(normal_images, verbose=0)
    np.testing.assert_allclose(twice.score(normal_images), once.score(normal_images), rtol=1e-4)


def test_calibration(method, normal_images, other_normal_images):
    detector = make(method, epochs=1).fit(normal_images, verbose=0)
    assert detector.calibrate(other_normal_images, 0.2) is detector
    assert detector.false_alarm_rate == 0.2
    # The ⌈301 · 0.8⌉ = 241st of its own scores is the threshold.
    assert detector.predict(other_normal_images).sum() == 59
    assert detector.calibrate(other_normal_images).predict(other_normal_images).sum() == 59
    assert sum(len(boxes) > 0 for boxes in detector.boxes(other_normal_images)) == 59
    with pytest.raises(InputError, match="at least 999 normal images"):
        detector.calibrate(other_normal_images, 0.001)
    assert detector.false_alarm_rate == 0.2


def test_validation_images_set_the_threshold_and_nothing_else(
    method, normal_images, other_normal_images
):
    low = make(method, epochs=2).fit(normal_images, validation=other_normal_images[:150], verbose=0)
    high = make(method, epochs=2).fit(
        normal_images, validation=np.clip(2 * other_normal_images[150:], 0, 1), verbose=0
    )
    np.testing.assert_array_equal(low.score(normal_images), high.score(normal_images))
    assert high.threshold > 1.5 * low.threshold
    assert low.predict(other_normal_images[:150]).sum() == 6


def test_augmentation_changes_what_is_learned(method, normal_images, fitted):
    policy = AugmentationPolicy(gaussian_stddev=0.3, noise_probability=1)
    detector = make(method, epochs=1, augmentation=policy).fit(normal_images, verbose=0)
    plain = make(method, epochs=1).fit(normal_images, verbose=0)
    assert not np.allclose(detector.score(normal_images), plain.score(normal_images), rtol=1e-3)
    again = detector_class(method).from_config(json.loads(json.dumps(detector.get_config())))
    assert again.augmentation == policy


@pytest.mark.parametrize("shape", [(32, 32, 3), (64, 64, 1), (45, 33, 1)])
def test_sizes_and_colours(method, shape):
    images = np.random.default_rng(0).random((60, *shape), np.float32)
    detector = make(method, image_shape=shape, epochs=1).fit(images, verbose=0)
    assert detector.score(images).shape == (60,)
    assert detector.anomaly_map(images[:3]).shape == (3, *shape[:2])
    assert np.isfinite(detector.encode(images[:3])).all()


# Saving.

LOAD = """
import sys, numpy as np, anomaly
detector = anomaly.OneClassDetector.load(sys.argv[1])
images = np.load(sys.argv[2])
np.savez(sys.argv[3], scores=detector.score(images), maps=detector.anomaly_map(images),
         features=detector.encode(images), alarms=detector.predict(images))
"""


def test_another_process_gives_the_same_scores(fitted, tmp_path, defective_images, normal_images):
    images = np.concatenate([defective_images[:9], normal_images[:30]])
    np.save(tmp_path / "images.npy", images)
    assert fitted.save(tmp_path / "saved") == tmp_path / "saved"
    for file in (tmp_path / "saved").iterdir():
        assert b"pickle" not in file.read_bytes()
    command = [sys.executable, "-c", LOAD, "saved", "images.npy", "found.npz"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "found.npz") as found:
        np.testing.assert_allclose(found["scores"], fitted.score(images), rtol=1e-6)
        np.testing.assert_allclose(found["maps"], fitted.anomaly_map(images), atol=1e-6)
        np.testing.assert_allclose(found["features"], fitted.encode(images), atol=1e-6)
        np.testing.assert_array_equal(found["alarms"], fitted.predict(images))


def test_save_and_load_keep_everything(fitted, tmp_path, normal_images):
    fitted.save(tmp_path)
    loaded = type(fitted).load(tmp_path)
    assert type(loaded) is type(fitted)
    assert loaded.get_config() == fitted.get_config()
    assert loaded.threshold == fitted.threshold
    assert loaded.pixel_threshold == fitted.pixel_threshold
    np.testing.assert_array_equal(loaded.score(normal_images), fitted.score(normal_images))


def test_a_save_replaces_the_one_before_or_leaves_it_whole(
    method, fitted, tmp_path, normal_images, monkeypatch
):
    fitted.save(tmp_path)
    other = make(method, epochs=1, seed=1).fit(normal_images, verbose=0)

    def fail(*_):
        raise InputError("No space left on device.")

    with monkeypatch.context() as patch:
        patch.setattr("anomaly.saving.write_json", fail)
        with pytest.raises(InputError, match="No space"):
            other.save(tmp_path)
    kept = OneClassDetector.load(tmp_path)
    np.testing.assert_array_equal(kept.score(normal_images), fitted.score(normal_images))
    other.save(tmp_path)
    loaded = OneClassDetector.load(tmp_path)
    np.testing.assert_array_equal(loaded.score(normal_images), other.score(normal_images))
    fitted.save(tmp_path / "fresh")
    assert len(list((tmp_path / "fresh").iterdir())) == 2


def test_files_that_are_no_detector(fitted, tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        OneClassDetector.load(tmp_path / "none")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text('{"train": {}}')
    with pytest.raises(InputError, match="something else's"):
        OneClassDetector.load(tmp_path / "run")
    with pytest.raises(InputError, match="something else's"):
        fitted.save(tmp_path / "run")
    assert (tmp_path / "run" / "config.json").read_text() == '{"train": {}}'
    assert len(list((tmp_path / "run").iterdir())) == 1

    config = fitted.save(tmp_path / "saved") / "config.json"
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


def test_a_detector_of_another_method_is_refused(fitted, tmp_path):
    class Psychic(OneClassDetector):
        method = "psychic"

    fitted.save(tmp_path)
    with pytest.raises(InputError, match=f"detector of psychic; .* holds {fitted.method}"):
        Psychic.load(tmp_path)


# Checkpoints.


class StopError(Exception):
    pass


def test_an_interrupted_fit_goes_on_to_the_same_result(
    method, normal_images, tmp_path, monkeypatch
):
    # With noise and shuffling, so that a resumed epoch which draws others is found out.
    policy = AugmentationPolicy(gaussian_stddev=0.2, noise_probability=1)
    settings = {"epochs": 3, "augmentation": policy}
    whole = make(method, **settings).fit(normal_images, folder=tmp_path / "whole", verbose=0)

    original = keras.callbacks.TensorBoard.on_epoch_end

    def interrupt(self, epoch, logs=None):
        original(self, epoch, logs)
        if epoch == 1:
            raise StopError

    broken = make(method, **settings)
    with monkeypatch.context() as patch:
        patch.setattr(keras.callbacks.TensorBoard, "on_epoch_end", interrupt)
        with pytest.raises(StopError):
            broken.fit(normal_images, folder=tmp_path / "broken", verbose=0)
    with pytest.raises(InputError, match="must be fitted before score"):
        broken.score(normal_images)
    with pytest.raises(InputError, match="holds a run"):
        broken.fit(normal_images, folder=tmp_path / "broken", verbose=0)
    for changed, images in ({"epochs": 4}, normal_images), ({}, normal_images[1:]):
        with pytest.raises(InputError, match="must stay"):
            make(method, **settings | changed).fit(
                images, folder=tmp_path / "broken", resume=True, verbose=0
            )
    broken.fit(normal_images, folder=tmp_path / "broken", resume=True, verbose=0)
    np.testing.assert_allclose(broken.score(normal_images), whole.score(normal_images), rtol=1e-5)
    histories = [
        np.loadtxt(path, delimiter=",", skiprows=1)
        for name in ("whole", "broken")
        for path in sorted((tmp_path / name).glob("*/history.csv"))[-1:]
    ]
    assert len(histories[0]) == 3
    np.testing.assert_allclose(histories[0], histories[1], rtol=1e-5)


# Bad input.


def test_nothing_but_fit_works_before_fit(method, normal_images, tmp_path):
    detector = make(method)
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
def test_unusable_images(method, fitted, normal_images, spoil, message):
    images = spoil(normal_images)
    unfitted = make(method)
    for argument, call in (
        ("normal_images", lambda: unfitted.fit(images)),
        ("validation", lambda: unfitted.fit(normal_images, validation=images)),
        ("anomalies", lambda: unfitted.fit(normal_images, anomalies=images)),
        ("images", lambda: fitted.score(images)),
        ("images", lambda: fitted.predict(images)),
        ("images", lambda: fitted.anomaly_map(images)),
        ("images", lambda: fitted.calibrate(images)),
    ):
        with pytest.raises(InputError, match=rf"^{argument} must .*{message}") as caught:
            call()
        assert "\n" not in str(caught.value)


def test_normal_images_that_do_not_do(method, normal_images, other_normal_images, tmp_path):
    detector = make(method)
    with pytest.raises(InputError, match="must differ; all 100 are the same"):
        detector.fit(np.repeat(normal_images[:1], 100, axis=0))
    with pytest.raises(InputError, match=r"at least 38 .*; received 30"):
        detector.fit(normal_images[:30])
    with pytest.raises(InputError, match=r"batch_size must be at most .* 21; received 32"):
        detector.fit(normal_images[:40])
    with pytest.raises(InputError, match=r"validation must be at least 19 .*; received 18"):
        detector.fit(normal_images, validation=other_normal_images[:18])
    with pytest.raises(InputError, match="batch_size must be an integer"):
        detector.fit(normal_images[:64], verbose=0).score(normal_images, batch_size=0)
    if not detector.takes_anomalies:
        with pytest.raises(InputError, match="anomalies must be None"):
            detector.fit(normal_images, anomalies=other_normal_images)


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


def test_image_shape_is_required(method):
    with pytest.raises(InputError, match="must have image_shape"):
        detector_class(method).from_config({})


def test_a_training_that_diverges_says_so(method, normal_images, monkeypatch):
    detector = make(method)

    def diverge(self, training: Training):
        for network in self._networks.values():
            network.set_weights([np.full_like(w, np.nan) for w in network.get_weights()])

    monkeypatch.setattr(type(detector), "_train", diverge)
    with pytest.raises(InputError, match="the training diverged"):
        detector.fit(normal_images, verbose=0)
    with pytest.raises(InputError, match="fitted before"):
        detector.score(normal_images)
