import contextlib
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

from robustcls import build_classifier
from robustcls._validation import InputError
from robustcls.classifiers.flattening import flatten
from robustcls.explanation.activation_maximization import class_images
from robustcls.explanation.explainer import METHODS, Explainer
from robustcls.explanation.fourier import Waves
from robustcls.explanation.layers import choose_layer
from robustcls.explanation.methods.resampling import enlarge

CAMS = ["grad_cam", "grad_cam_plus_plus", "layer_cam", "score_cam"]


@contextlib.contextmanager
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def reference(method, model, images, classes, layer):
    """The map of one image at a time, as tf-keras-vis itself makes it."""
    with quiet():
        from tf_keras_vis.gradcam import Gradcam
        from tf_keras_vis.gradcam_plus_plus import GradcamPlusPlus
        from tf_keras_vis.layercam import Layercam
        from tf_keras_vis.saliency import Saliency
        from tf_keras_vis.scorecam import Scorecam
        from tf_keras_vis.utils.scores import CategoricalScore

        made = {
            "grad_cam": Gradcam,
            "grad_cam_plus_plus": GradcamPlusPlus,
            "layer_cam": Layercam,
            "score_cam": Scorecam,
        }
        maps = []
        for image, label in zip(images, classes, strict=True):
            score = CategoricalScore([int(label)])
            if method in ("positive", "negative"):
                sign = 1.0 if method == "positive" else -1.0
                maps += list(
                    Saliency(model)(
                        score,
                        image[None],
                        gradient_modifier=lambda g, sign=sign: tf.nn.relu(sign * g),
                        normalize_map=False,
                    )
                )
            else:
                settings = {"penultimate_layer": layer, "seek_penultimate_conv_layer": False}
                settings |= {"expand_cam": False, "normalize_cam": False}
                found = made[method](model)(score, image[None], **settings)
                maps += list(np.asarray(found))
    return np.stack(maps)


def scaled(maps):
    low = maps.min((1, 2), keepdims=True)
    high = maps.max((1, 2), keepdims=True)
    return (maps - low) / (high - low + 1e-7)


def test_signed_gradients_are_those_of_tf_keras_vis(network, explainer, pictures):
    images, labels = pictures[0][:5], pictures[1][:5]
    maps = explainer("gradients", images, labels)
    for sign, found in (("positive", maps.positive), ("negative", maps.negative)):
        expected = reference(sign, network, images, labels, None)
        np.testing.assert_allclose(found, expected, atol=1e-5 * expected.max())
    assert (maps.positive * maps.negative).max() == 0  # one channel: one sign a pixel
    np.testing.assert_array_equal(maps.relevance, np.abs(maps.signed))


@pytest.mark.parametrize("method", CAMS)
def test_class_activation_maps_are_those_of_tf_keras_vis(network, explainer, pictures, method):
    images, labels = pictures[0][:5], pictures[1][:5]
    maps = explainer(method, images, labels)
    assert explainer.layer == "last"
    assert maps.resolution == (8, 8)
    assert maps.positive.shape == (5, 16, 16)
    expected = enlarge(reference(method, network, images, labels, "last"), 16, 16)
    np.testing.assert_allclose(scaled(maps.positive), scaled(expected), atol=1e-4)


def test_enlarging_is_scipys_linear_zoom():
    from scipy.ndimage import zoom

    maps = np.random.default_rng(0).random((2, 3, 5)).astype(np.float32)
    expected = zoom(maps, (1, 4, 2.2), order=1, mode="nearest")
    np.testing.assert_allclose(enlarge(maps, 12, 11), expected, atol=1e-6)
    assert enlarge(maps[:, :1, :1], 4, 4).shape == (2, 4, 4)


def test_integrated_gradients_share_out_the_difference_to_black(explainer, network, pictures):
    images, labels = pictures
    maps = explainer("integrated_gradients", images, labels)
    logits = network.predict(images, verbose=0) - network.predict(0 * images[:1], verbose=0)
    expected = np.take_along_axis(logits, labels[:, None], 1)[:, 0]
    np.testing.assert_allclose(maps.signed.sum((1, 2)), expected, rtol=0.03, atol=0.05)
    np.testing.assert_array_equal(maps.relevance, maps.signed)


def test_a_map_belongs_to_its_image_and_class(explainer, pictures):
    images, labels = pictures
    for method in ("gradients", "smoothgrad", "grad_cam", "grad_cam_plus_plus"):
        together = explainer(method, images, labels).positive
        alone = explainer(method, images[13:14], labels[13:14]).positive
        np.testing.assert_allclose(together[13:14], alone, atol=1e-5, err_msg=method)
        other = explainer(method, images[13:14], (labels[13:14] + 1) % 4).positive
        assert np.abs(other - alone).max() > 1e-3, method


def test_methods_look_where_the_class_is(explainer, pictures, places):
    images, labels = pictures
    # Where the gradient varies most is not where the class is: this network's varies in the noise.
    for method in METHODS.built_in - {"attention_rollout", "vargrad"}:
        relevance = explainer(method, images, labels).relevance
        relevance = relevance - relevance.min((1, 2), keepdims=True)  # RISE begins at the mean
        assert relevance[places].mean() > 1.2 * relevance[~places].mean(), method


def test_smoothgrad_is_seeded(network, explainer, pictures):
    images, labels = pictures[0][:3], pictures[1][:3]
    first = explainer("smoothgrad", images, labels).signed
    np.testing.assert_array_equal(first, explainer("smoothgrad", images, labels).signed)
    other = Explainer(network, seed=1, batch_size=8)("smoothgrad", images, labels).signed
    assert np.abs(first - other).max() > 0


def test_nothing_is_traced_twice(network, pictures):
    images, labels = pictures
    calls = []

    class Counting(keras.layers.Layer):
        def call(self, inputs):
            calls.append(1)
            return inputs

    counted = keras.Model(network.inputs, Counting()(network.outputs[0]))
    explainer = Explainer(counted, layer="last", batch_size=8)
    for method in ("gradients", "grad_cam"):
        explainer(method, images, labels)
    traced = len(calls)
    for count in (1, 7, 20):
        for method in ("gradients", "grad_cam"):
            explainer(method, images[:count], labels[:count])
    assert len(calls) == traced


def nested(network, end):
    """The network as one layer of another, which ends in softmax."""
    backbone = keras.Model(network.inputs, network.get_layer("last").output, name="backbone")
    images = keras.Input(network.input_shape[1:])
    features = network.get_layer("pooled")(backbone(images))
    logits = network.get_layer("logits")
    if end == "dense":
        last = keras.layers.Dense(4, activation="softmax", name="probabilities")
        outputs = last(features)
        last.set_weights(logits.get_weights())
        return keras.Model(images, outputs)
    outputs = logits(features)
    outputs = keras.layers.Softmax()(outputs) if end == "layer" else keras.ops.softmax(outputs)
    return keras.Model(images, outputs)


@pytest.mark.parametrize("end", ["dense", "layer", "operation"])
def test_nested_and_softmax_ended_models(network, explainer, pictures, end):
    images, labels = pictures[0][:4], pictures[1][:4]
    model = nested(network, end)
    before = [np.array(weight) for weight in model.weights]
    other = Explainer(model, batch_size=8)
    assert other.layer == "last"
    for method in ("gradients", "grad_cam"):
        expected = explainer(method, images, labels)
        found = other(method, images, labels)
        np.testing.assert_allclose(found.positive, expected.positive, atol=1e-4, err_msg=method)
    for weight, kept in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(weight, kept)
    assert np.allclose(model.predict(images, verbose=0).sum(-1), 1)


def test_a_subclassed_model_has_gradients_but_no_layers(network, explainer, pictures):
    class Wrapped(keras.Model):
        def call(self, images):
            return network(images)

    images, labels = pictures[0][:2], pictures[1][:2]
    wrapped = Explainer(Wrapped(), batch_size=8)
    np.testing.assert_allclose(
        wrapped("gradients", images, labels).signed,
        explainer("gradients", images, labels).signed,
        atol=1e-5,
    )
    with pytest.raises(InputError, match="cannot be told apart"):
        wrapped("grad_cam", images, labels)


def test_our_own_classifiers_are_flat():
    model = build_classifier("mobilenet_v2", input_shape=(32, 32, 3), num_classes=5, alpha=0.35)
    assert flatten(model) is model
    # The last map, of 2x2, would only say "somewhere".
    assert choose_layer(model).output.shape[1:3] == (4, 4)


def test_random_weights_are_put_back(explainer, network, pictures):
    images, labels = pictures[0][:3], pictures[1][:3]
    before = explainer("gradients", images, labels).signed
    with pytest.raises(RuntimeError, match="stop"), explainer.random_weights(1):
        assert np.abs(explainer("gradients", images, labels).signed - before).max() > 1e-3
        raise RuntimeError("stop")
    np.testing.assert_array_equal(explainer("gradients", images, labels).signed, before)


@pytest.mark.parametrize(("way", "steps"), [("fourier", 128), ("pixels", 24)])
def test_class_images_are_what_the_model_takes_for_the_class(explainer, network, way, steps):
    settings = {"steps": steps, "step_size": 0.1 if way == "fourier" else 0.05}
    settings |= {"seed": 0, "parametrization": way}
    found = class_images(explainer, np.arange(4), (16, 16, 1), **settings)
    assert found.shape == (4, 16, 16, 1)
    assert found.min() >= 0
    assert found.max() <= 1
    # No image has a higher logit of a class than its own; waves are no way to a fine weave.
    logits = network.predict(found, verbose=0)
    assert (logits.argmax(0) == np.arange(4)).all()
    gray = network.predict(np.full((1, 16, 16, 1), 0.5), verbose=0)
    assert (np.diag(logits) > gray + 1).all()
    again = class_images(explainer, np.arange(4), (16, 16, 1), **settings)
    np.testing.assert_array_equal(found, again)


def test_waves_are_images_of_any_size_and_low_ones_count_most():
    for shape in ((5, 8, 3), (8, 7, 1)):
        waves = Waves(shape)
        start = waves.start(2, 0)
        images = waves.images(tf.constant(start)).numpy()
        assert images.shape == (2, *shape)
        np.testing.assert_array_equal(images[0], images[1])
        np.testing.assert_allclose(images, 0.5, atol=0.1)
    # A step of one size in every wave changes the mean most.
    change = []
    for at in (0, 1, 4):
        one = np.zeros_like(start)
        one[:, :, at, 0, 0] = 1
        change.append(np.abs(waves.images(tf.constant(one)).numpy() - 0.5).max())
    assert change[0] >= change[1] - 1e-6 > 2 * change[2]


def test_bad_input(network, pictures):
    images, labels = pictures[0][:2], pictures[1][:2]
    explainer = Explainer(network)
    cases = [
        (lambda: explainer("grad_cam_plus", images, labels), "Did you mean 'grad_cam"),
        (lambda: explainer("gradients", images, labels + 4), r"classes must be in \[0, 4\)"),
        (lambda: explainer("gradients", images[:, :8], labels), "of the model's shape"),
        (lambda: explainer("gradients", images * 255, labels), "images / 255"),
        (lambda: Explainer(network, layer="lst"), "Did you mean 'last'"),
        (lambda: Explainer(network, layer="zzz"), "Near the end are"),
        (lambda: Explainer(network, layer="pooled"), "have a feature map"),
        (lambda: Explainer("model.keras"), "which does not exist"),
        (lambda: Explainer(7), "a path or a function from images to scores; received int"),
        (lambda: Explainer(network, steps=0), "steps must be an integer >= 1"),
        (lambda: explainer("gradients", images[:0], labels[:0]), "images must be a non-empty"),
        (lambda: class_images(explainer, [], (16, 16, 1)), "classes must be at least one class"),
        (lambda: class_images(explainer, [4], (16, 16, 1)), r"classes must be in \[0, 4\)"),
        (lambda: class_images(explainer, [0], (16, 8, 1)), "of the model's shape"),
        (
            lambda: class_images(explainer, [0], (16, 16, 1), parametrization="fouriers"),
            "Did you mean 'fourier'",
        ),
    ]
    for call, message in cases:
        with pytest.raises(InputError, match=message):
            call()
    flat = keras.Sequential(
        [keras.Input((16, 16, 1)), keras.layers.Flatten(), keras.layers.Dense(4)]
    )
    with pytest.raises(InputError, match="must have a convolution"):
        Explainer(flat)("grad_cam", images, labels)
