import subprocess
import sys
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

from robustcls._validation import InputError
from robustcls.models.building import build_classifier, load_classifier
from robustcls.models.normalization import FusedBatchNormalization


def small(**settings):
    settings = {"input_shape": (16, 16, 3), "num_classes": 5, "alpha": 0.35, **settings}
    return build_classifier(**settings)


def images(shape=(4, 16, 16, 3), seed=0):
    return np.random.default_rng(seed).random(shape, dtype=np.float32)


def weights_equal(a, b):
    return [np.array_equal(x, y) for x, y in zip(a.get_weights(), b.get_weights(), strict=True)]


def test_the_contract():
    model = small(input_shape=(20, 16, 1))
    assert model.name == "mobilenet_v2"
    assert [tensor.name for tensor in model.inputs] == ["images"]
    assert model.inputs[0].dtype == "float32"
    assert model.output_names == ["logits"]
    assert not any(isinstance(layer, keras.Model) for layer in model.layers)
    logits = model(images((3, 20, 16, 1)))
    assert logits.shape == (3, 5)
    assert logits.dtype == "float32"
    assert logits.numpy().min() < 0
    norms = [x for x in model.layers if isinstance(x, keras.layers.BatchNormalization)]
    assert len(norms) == 52
    assert {type(layer) for layer in norms} == {FusedBatchNormalization}


def test_preprocessing_is_part_of_the_graph():
    model = small(input_shape=(8, 8, 1), resize_to=16)
    x = images((2, 8, 8, 1))
    prepared = keras.Model(model.input, model.get_layer("preprocess").output)(x)
    resized = tf.image.resize(np.repeat(x, 3, axis=-1), (16, 16))
    expected = (resized - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    np.testing.assert_allclose(prepared, expected, atol=1e-5)
    with tf.GradientTape() as tape:
        tape.watch(x := tf.constant(x))
        loss = tf.reduce_sum(model(x) ** 2)
    assert np.count_nonzero(tape.gradient(loss, x)) == 2 * 8 * 8


@pytest.mark.usefixtures("shallow")
def test_inference_draws_nothing():
    model = small(dropout=0.5)
    x = images()
    np.testing.assert_array_equal(model(x), model(x))
    assert not np.array_equal(model(x, training=True), model(x, training=True))


@pytest.mark.parametrize(
    ("size", "output_stride", "last"),
    [(14, None, 2), (16, None, 2), (28, None, 2), (32, None, 2), (48, None, 3), (56, None, 2),
     (64, None, 2), (96, None, 3), (32, 32, 1), (32, 8, 4), (64, 16, 4)],
)  # fmt: skip
@pytest.mark.usefixtures("shallow")
def test_output_stride(size, output_stride, last):
    model = small(input_shape=(size, size, 3), output_stride=output_stride)
    assert model.get_layer("average_pool").input.shape[1:3] == (last, last)


def test_strides_go_from_the_stem_on():
    model = small(output_stride=8, input_shape=(32, 32, 3))
    strided = [layer.name for layer in model.layers if getattr(layer, "strides", (1, 1)) == (2, 2)]
    assert strided == ["block_3_depthwise", "block_6_depthwise", "block_13_depthwise"]


@pytest.mark.usefixtures("shallow")
def test_seed_fixes_the_weights_whatever_was_built_before():
    first = small(seed=3)
    keras.utils.set_random_seed(99)
    small(seed=4)
    second = small(seed=3)
    assert all(weights_equal(first, second))
    other = small(seed=4)
    same = weights_equal(first, other)
    kernels = [value.ndim > 1 for value in first.get_weights()]
    assert not any(s for s, kernel in zip(same, kernels, strict=True) if kernel)
    names = [layer.name for layer in first.layers]
    assert names == [layer.name for layer in second.layers]


def test_a_new_model_has_usable_logits():
    logits = small(input_shape=(32, 32, 3), alpha=1.0)(images((8, 32, 32, 3))).numpy()
    assert 1e-2 < logits.std() < 10
    assert logits.std(axis=0).max() > 1e-4


def step(network, x, training):
    """Logits, gradients and statistics after one pass, each in float64."""
    with tf.GradientTape() as tape:
        tape.watch(x)
        logits = network(x, training=training)
        loss = tf.reduce_mean(logits**2)
    gradients = tape.gradient(loss, [x, *network.trainable_weights])
    results = [logits, *gradients, *network.non_trainable_weights]
    return [np.asarray(result).astype("float64") for result in results]


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.usefixtures("shallow")
def test_equals_the_same_network_on_keras_batch_norm(training):
    model = small(input_shape=(32, 32, 3), alpha=1.0)

    def version(dtype, fused):
        """The network with a smooth activation: where a ReLU6 bends, rounding decides."""

        def copy(layer):
            settings = {**layer.get_config(), "dtype": dtype}
            if isinstance(layer, keras.layers.ReLU):
                return keras.layers.Activation("softplus", name=layer.name, dtype=dtype)
            if isinstance(layer, FusedBatchNormalization) and not fused:
                return keras.layers.BatchNormalization.from_config(settings)
            return type(layer).from_config(settings)

        network = keras.models.clone_model(model, clone_function=copy)
        network.set_weights(model.get_weights())
        return network

    x = tf.constant(images((16, 32, 32, 3)))
    expected, stock, fused = (
        step(version(*settings), x, training)
        for settings in (("float64", False), ("float32", False), ("float32", True))
    )
    # Rounding grows over the layers: as much as Keras' own may. Some gradients are zero, of a bias
    # before a normalization for one, and have no rounding to compare with.
    floor = 1e-7 * max(np.linalg.norm(exact) for exact in expected)
    for exact, a, b in zip(expected, stock, fused, strict=True):
        scale = np.linalg.norm(exact)
        assert np.linalg.norm(b - exact) <= 3 * np.linalg.norm(a - exact) + 1e-5 * scale + floor


@pytest.mark.usefixtures("shallow")
def test_saving_keeps_everything(tmp_path):
    model = small(input_shape=(12, 12, 1), resize_to=16, dropout=0.2)
    model(images((4, 12, 12, 1)), training=True)
    model.save(tmp_path / "m.keras")
    loaded = load_classifier(tmp_path / "m.keras")
    x = images((4, 12, 12, 1))
    np.testing.assert_array_equal(loaded(x), model(x))
    assert [tensor.name for tensor in loaded.inputs] == ["images"]
    assert loaded.output_names == ["logits"]


@pytest.mark.long
@pytest.mark.usefixtures("shallow")
def test_loads_in_a_process_that_imports_only_the_loader(tmp_path):
    small().save(tmp_path / "m.keras")
    code = (
        "import sys; from robustcls.models.building import load_classifier\n"
        "print(load_classifier(sys.argv[1]).output_shape)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "m.keras"], capture_output=True, text=True
    )
    assert done.stdout.strip() == "(None, 5)", done.stderr


@pytest.mark.parametrize("name", ["m.keras", "m.weights.h5"])
@pytest.mark.usefixtures("shallow")
def test_weights_from_a_file(tmp_path, name):
    model = small(seed=1)
    (model.save if name == "m.keras" else model.save_weights)(tmp_path / name)
    again = small(weights=tmp_path / name)
    assert all(weights_equal(model, again))
    assert name in again.weights_source
    for other in ({"num_classes": 6}, {"alpha": 0.5}):
        with pytest.raises(InputError, match="same architecture") as error:
            small(**{"input_shape": (32, 32, 3), **other, "weights": tmp_path / name})
        assert "\n" not in str(error.value)
        assert str(tmp_path / name) in str(error.value)


@pytest.mark.usefixtures("shallow")
def test_weights_from_a_file_keep_its_padding_and_scaling(tmp_path, monkeypatch):
    from robustcls.models import building as classifier
    from robustcls.models import pretrained

    arrays = {layer.name: layer.get_weights() for layer in small().layers if layer.weights}
    found = pretrained.ImageNetWeights(layers=arrays, padding="keras", source="test")
    monkeypatch.setattr(classifier, "imagenet_weights", lambda *_, **__: found)
    model = small(weights="imagenet")
    model.save(tmp_path / "m.keras")
    again = small(weights=tmp_path / "m.keras")
    np.testing.assert_array_equal(again(images()), model(images()))
    assert not np.allclose(small()(images()), model(images()), atol=1e-2)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"input_shape": (16, 16)}, "input_shape must be"),
        ({"input_shape": (16, 16, 4)}, "1 or 3 channels"),
        ({"input_shape": (16.5, 16, 3)}, "input_shape must be"),
        ({"input_shape": (13, 64, 3)}, "at least 14 pixels.*received 13.*resize_to=64"),
        ({"input_shape": (31, 31, 3), "output_stride": 32}, "at least 32 pixels"),
        ({"backbone": "densenet121", "alpha": 1.0}, "at least 32 pixels.*densenet121"),
        ({"backbone": "densenet121", "input_shape": (64, 64, 3)}, "alpha must be 1.0"),
        ({"backbone": "resnext50", "alpha": 1.0, "output_stride": 16}, "output_stride must be 32"),
        ({"output_stride": 4}, "output_stride must be 32 or 16 or 8"),
        ({"num_classes": 1}, "num_classes must be an integer >= 2"),
        ({"dropout": 1.0}, "dropout must be a number >= 0 and < 1"),
        ({"alpha": 0}, "alpha must be a number > 0"),
        ({"seed": -1}, "seed must be"),
        ({"resize_to": 0}, "resize_to must be"),
        ({"weights": "imagnet"}, "Did you mean 'imagenet'"),
        ({"weights": "missing.keras"}, "does not exist"),
        ({"weights": 5}, "weights must be one of.*received '5'"),
        ({"backbone": "mobilenetv2"}, "backbone must be one of.*Did you mean 'mobilenet_v2'"),
    ],
)
def test_bad_arguments(settings, words):
    with pytest.raises(InputError, match=words) as error:
        small(**settings)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [None, b"", b"not a model", b"PK\x05\x06" + bytes(18)])
def test_load_of_what_is_no_model(tmp_path, content):
    path = tmp_path / "m.keras"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=r"path must be a.*m\.keras") as error:
        load_classifier(path)
    assert "\n" not in str(error.value)


@pytest.mark.usefixtures("shallow")
def test_load_of_a_cut_model(tmp_path):
    path = tmp_path / "m.keras"
    small().save(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match="path must be a model saved"):
        load_classifier(path)


def test_h5_files_which_may_hold_code_are_taken_on_request_alone(tmp_path):
    model = keras.Sequential(
        [keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(2)]
    )
    for name in ("m.h5", "m.HDF5"):
        path = tmp_path / name
        path.write_bytes(b"")
        with pytest.raises(InputError, match=r"may run code .* allow_h5=True"):
            load_classifier(path)
    model.save_weights(tmp_path / "m.weights.h5")
    with pytest.raises(InputError, match="holds weights alone"):
        load_classifier(tmp_path / "m.weights.h5", allow_h5=True)
    path = tmp_path / "n.h5"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.save(path)
        loaded = load_classifier(path, allow_h5=True)
    images = np.ones((1, 4, 4, 1), np.float32)
    np.testing.assert_array_equal(loaded(images), model(images))
