"""An export that says whether an image is familiar: the same in every form."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import robustcls as rc
from robustcls.serving.checking.fresh_process import read_cases
from robustcls.serving.checking.parity import check_export
from robustcls.serving.exports.cases import CASES_FILE
from robustcls.serving.exports.portable import export_file


@pytest.fixture(scope="module")
def images():
    draws = np.random.default_rng(0)
    return rc.Split(
        draws.integers(0, 256, (120, 12, 16, 1), dtype=np.uint8),
        np.arange(120) % 3,
        np.arange(120).astype(str),
    )


@pytest.fixture(scope="module")
def fitted(model, images):
    return rc.familiarity.fit(model, images, false_alarm_rate=0.1)


NAMES = ["cat", "dog", "bird"]


def test_saved_model(model, images, fitted, failed_checks, tmp_path):
    # From the least familiar ones on.
    shown = images.images[np.argsort(fitted.score(images))[::4]]
    version = rc.export(model, tmp_path / "e", class_names=NAMES, familiarity=fitted, images=shown)
    cases = read_cases(version / CASES_FILE)
    assert failed_checks(tf.saved_model.load(str(version)), cases) == []
    inputs, outputs = cases["serving_default"]
    np.testing.assert_array_equal(outputs["familiarity"], fitted.score(inputs["images"]))
    np.testing.assert_array_equal(outputs["familiar"], fitted.is_familiar(inputs["images"]))
    assert set(outputs["familiar"].tolist()) == {True, False}
    assert "familiar" in cases["serving_bytes"][1]
    card = (version / "MODEL_CARD.md").read_text()
    assert "`familiarity` float32 [N]" in card
    assert "`familiar` bool [N]" in card
    assert f"{fitted.threshold:.6g}" in card
    assert "10 %" in card


@pytest.fixture(scope="module")
def small(model, fitted, tmp_path_factory):
    """A version in bfloat16."""
    folder = tmp_path_factory.mktemp("bfloat16")
    return rc.export(model, folder, class_names=NAMES, familiarity=fitted, bfloat16=True)


def test_bfloat16(small, failed_checks):
    cases = read_cases(small / CASES_FILE)
    assert {"familiarity", "familiar"} <= cases["serving_default"][1].keys()
    assert failed_checks(tf.saved_model.load(str(small)), cases) == []


@pytest.mark.long
def test_it_needs_no_keras(small):
    assert [check for check in check_export(small) if not check["passed"]] == []


# One that looks at the logits and one that looks at the features.
TYPICAL = ("energy", "knn")


@pytest.mark.parametrize(
    "method",
    [
        pytest.param(name, marks=[] if name in TYPICAL else [pytest.mark.exhaustive])
        for name in sorted(rc.familiarity.METHODS.built_in)
    ],
)
def test_onnx(method, model, images, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    fitted = rc.familiarity.fit(model, images, method=method, false_alarm_rate=0.1)
    version = export_file(
        model,
        tmp_path / "e",
        format="onnx",
        class_names=NAMES,
        calibration=images.images[:8],
        test=images.take(np.arange(8)),
        name="tiny",
        familiarity=fitted,
    )
    session = onnxruntime.InferenceSession(version / "model.onnx")
    scores, familiar = session.run(["familiarity", "familiar"], {"images": images.float_images()})
    np.testing.assert_allclose(scores, fitted.score(images), rtol=1e-4, atol=1e-5)
    assert np.mean(familiar == fitted.is_familiar(images)) > 0.99
    assert "familiar" in (version / "MODEL_CARD.md").read_text()


def test_another_model(model, images, fitted, tmp_path):
    other = keras.models.clone_model(model)
    with pytest.raises(rc.InputError, match="must be fitted to the model"):
        rc.export(other, tmp_path / "e", class_names=NAMES, familiarity=fitted)
    with pytest.raises(rc.InputError, match="int8"):
        export_file(
            model,
            tmp_path / "e",
            format="int8",
            class_names=NAMES,
            calibration=images.images[:8],
            test=images,
            name="tiny",
            familiarity=fitted,
        )
    assert not list((tmp_path / "e").glob("*"))
