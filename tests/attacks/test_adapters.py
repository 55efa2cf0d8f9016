"""Models of every kind: what logits and gradients an attack gets of each."""

import gc
import weakref

import keras
import numpy as np
import pytest
import tensorflow as tf

from robustcls._validation import InputError
from robustcls.attacks import FGSM, PGD, Square, adapt
from robustcls.classifiers.adapters import classifier_of
from robustcls.classifiers.outputs import read_outputs
from robustcls.models.folding import fold_batch_norm

layers = keras.layers
SHAPE = (6, 5, 1)
IMAGES = np.random.default_rng(0).uniform(size=(12, *SHAPE)).astype(np.float32)


def base(scale=1.0):
    """The logits that all endings below share."""
    images = keras.Input(SHAPE)
    x = layers.Conv2D(3, 3, activation="tanh")(images)
    logits = layers.Dense(4)(layers.Flatten()(x))
    model = keras.Model(images, logits)
    generator = np.random.default_rng(1)
    model.set_weights([generator.normal(0, 1, w.shape) for w in model.get_weights()])
    model.layers[-1].set_weights([scale * w for w in model.layers[-1].get_weights()])
    return model


class Subclassed(keras.Model):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def call(self, images):
        return tf.nn.softmax(self.inner(images))


def endings(model):
    """The same classifier as probabilities, in every way a softmax can be put last."""
    images, logits = model.inputs[0], model.outputs[0]
    features = model.layers[-2].output
    dense = layers.Dense(4, activation="softmax")
    in_dense = keras.Model(images, dense(features))
    dense.set_weights(model.layers[-1].get_weights())
    inner = keras.Model(images, layers.Softmax()(logits))
    return {
        "dense": in_dense,
        "layer": keras.Sequential([keras.Input(SHAPE), *model.layers[1:], layers.Softmax()]),
        "activation": keras.Model(images, layers.Activation("softmax")(logits)),
        "operation": keras.Model(images, keras.ops.softmax(logits)),
        "nested": keras.Sequential([keras.Input(SHAPE), inner]),
        "lambda": keras.Model(images, layers.Lambda(lambda x: tf.nn.softmax(x))(logits)),
        "subclassed": Subclassed(model),
    }


ENDINGS = ["dense", "layer", "activation", "operation", "nested", "lambda", "subclassed"]


def same_up_to_a_constant(first, second, atol):
    """Softmax forgets one number for each image, which no attack needs."""
    first, second = (x - x.max(1, keepdims=True) for x in (np.array(first), np.array(second)))
    np.testing.assert_allclose(first, second, atol=atol)


@pytest.mark.parametrize("ending", ENDINGS)
def test_softmax_is_undone(ending):
    model = base()
    classifier = adapt(endings(model)[ending])
    assert classifier.prepare(IMAGES) == 4
    logits = model(IMAGES).numpy()
    same_up_to_a_constant(classifier.predict(IMAGES), logits, 1e-4)
    same_up_to_a_constant(classifier.logits(tf.constant(IMAGES)), logits, 1e-4)
    if ending not in ("lambda", "subclassed"):
        assert not classifier.probabilities
        np.testing.assert_allclose(classifier.predict(IMAGES), logits, atol=1e-5)


@pytest.fixture(scope="module")
def saturated():
    """Logits with margins of up to 60: (labels, what FGSM makes of the images, the endings)."""
    model = base(scale=5)
    logits = model(IMAGES).numpy()
    labels = logits.argmax(1)
    ordered = np.sort(logits, 1)
    assert 20 < (ordered[:, -1] - ordered[:, -2]).max() < 60
    return labels, FGSM(epsilon=0.1)(model, IMAGES, labels).adversarial, endings(model)


@pytest.mark.parametrize("ending", ENDINGS)
def test_saturated_softmax_is_attacked_like_the_logits(ending, saturated):
    """Probabilities round to 1, and the gradient of their loss is 0."""
    labels, expected, found_endings = saturated
    probabilities = found_endings[ending]
    assert (np.asarray(probabilities(IMAGES)).max(1) == 1).sum() > 2
    found = FGSM(epsilon=0.1)(probabilities, IMAGES, labels).adversarial
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_weights_trained_later_are_attacked():
    """What is taken from a model shares its weights."""
    probabilities = endings(base())["dense"]
    classifier = classifier_of(probabilities)
    classifier.prepare(IMAGES)
    before = classifier.predict(IMAGES)
    probabilities.set_weights([2 * w for w in probabilities.get_weights()])
    assert np.abs(classifier.predict(IMAGES) - before).max() > 1
    assert classifier_of(probabilities) is classifier
    assert adapt(probabilities) is not classifier


def normalized(seed=3, **ending):
    """A network whose batch norms can all be folded, with statistics as after training."""
    model = keras.Sequential(
        [
            keras.Input(SHAPE),
            layers.Conv2D(3, 3, use_bias=False),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.Conv2D(4, 3),
            layers.BatchNormalization(),
            layers.Flatten(),
            layers.Dense(4, **ending),
        ]
    )
    generator = np.random.default_rng(seed)
    model.set_weights([generator.uniform(0.1, 0.5, w.shape) for w in model.get_weights()])
    return model


@pytest.mark.parametrize("ending", [{}, {"activation": "softmax"}])
def test_batch_norm_is_folded_into_the_weights_of_the_moment(ending):
    model = normalized(**ending)
    classifier = classifier_of(model)
    for weights in (model.get_weights(), normalized(seed=4).get_weights()):
        model.set_weights(weights)
        classifier.prepare(IMAGES)
        expected = model(IMAGES, training=False).numpy()
        if ending:
            expected = np.log(expected)
        same_up_to_a_constant(classifier.predict(IMAGES), expected, 1e-4)
    kinds = {
        x.type
        for x in classifier.compiled["predict", SHAPE]
        .get_concrete_function()
        .graph.get_operations()
    }
    assert "BiasAdd" in kinds
    assert not kinds & {"Rsqrt", "FusedBatchNormV3"}
    alive = weakref.ref(model)
    del model
    gc.collect()
    assert alive() is None


class Scaled(layers.Layer):
    """Its configuration forgets its argument."""

    def __init__(self, scale=1.0, **kwargs):
        super().__init__(**kwargs)
        self.scale = scale

    def call(self, inputs):
        return self.scale * inputs

    def get_config(self):
        return super().get_config()


def test_layers_that_cannot_be_copied_are_attacked_as_they_are():
    fresh = normalized()
    steps = [type(layer).from_config(layer.get_config()) for layer in fresh.layers]
    model = keras.Sequential([keras.Input(SHAPE), *steps[:-1], Scaled(3.0), steps[-1]])
    model.set_weights(fresh.get_weights())
    assert len(fold_batch_norm(model).layers) < len(model.layers)
    classifier = classifier_of(model)
    classifier.prepare(IMAGES)
    np.testing.assert_allclose(classifier.predict(IMAGES), model(IMAGES), atol=1e-4)


def test_keras_file(tmp_path):
    model = base()
    model.save(tmp_path / "model.keras")
    labels = model(IMAGES).numpy().argmax(1)
    attack = PGD(epsilon=0.1, steps=3)
    expected = attack(model, IMAGES, labels)
    for path in (tmp_path / "model.keras", str(tmp_path / "model.keras")):
        np.testing.assert_array_equal(
            attack(path, IMAGES, labels).adversarial, expected.adversarial
        )


class Served(tf.Module):
    """A SavedModel with several signatures."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    @tf.function(input_signature=[tf.TensorSpec([None, *SHAPE], tf.float32, name="images")])
    def logits(self, images):
        return {"logits": self.model(images), "other": tf.zeros(3)}

    @tf.function(input_signature=[tf.TensorSpec([None, *SHAPE], tf.float32, name="images")])
    def probabilities(self, images):
        return {"p": tf.nn.softmax(self.model(images))}

    @tf.function(input_signature=[tf.TensorSpec([1, *SHAPE], tf.float32, name="images")])
    def one(self, images):
        return {"p": self.model(images)}

    @tf.function(input_signature=[tf.TensorSpec([None, *SHAPE], tf.uint8)])
    def pixels(self, images):
        return {"p": self.model(tf.cast(images, tf.float32))}

    @tf.function(input_signature=2 * [tf.TensorSpec([None, *SHAPE], tf.float32)])
    def two(self, first, second):
        return {"p": self.model(first + second)}


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    path = tmp_path_factory.mktemp("served")
    module = Served(base())
    names = {"serving_default": "logits"} | {
        x: x for x in ("probabilities", "one", "pixels", "two")
    }
    signatures = {key: getattr(module, name) for key, name in names.items()}
    tf.saved_model.save(module, str(path), signatures=signatures)
    return path


def test_saved_model_gives_gradients(served):
    model = base()
    labels = model(IMAGES).numpy().argmax(1)
    attack = PGD(epsilon=0.1, steps=3)
    expected = attack(model, IMAGES, labels)
    assert 0 < expected.success.sum() < 12
    by_logits = attack(served, IMAGES, labels)
    np.testing.assert_allclose(by_logits.adversarial, expected.adversarial, atol=1e-6)
    classifier = adapt(served, signature="probabilities")
    by_probabilities = attack(classifier, IMAGES, labels)
    assert classifier.probabilities
    np.testing.assert_allclose(by_probabilities.adversarial, expected.adversarial, atol=1e-6)


def test_saved_models_that_do_not_fit(served, tmp_path):
    for settings, message in (
        ({"signature": "predict"}, "signature must be one of .* received 'predict'"),
        ({"signature": "one"}, r"any N; signature one .* takes \(1, 6, 5, 1\)"),
        ({"signature": "two"}, "model must have one input; signature two .* takes first, second"),
        ({"signature": "pixels"}, "model must take float images .* signature pixels .* uint8"),
        ({"output": "scores"}, "output must be one of logits, other; received 'scores'"),
    ):
        with pytest.raises(InputError, match=message):
            adapt(served, **settings)
    with pytest.raises(InputError, match=r"holds no saved_model\.pb"):
        adapt(tmp_path)
    with pytest.raises(InputError, match="does not exist"):
        adapt(tmp_path / "missing.keras")
    (tmp_path / "saved_model.pb").write_bytes(b"not a graph")
    with pytest.raises(InputError, match=r"model must be a SavedModel; .* cannot be read"):
        adapt(tmp_path)


def test_preprocessing_keeps_radii_in_units_of_the_images():
    """A model of pixels from 0 to 255 is attacked like the same model of [0, 1]."""
    model = base()
    pixels = keras.Sequential([keras.Input(SHAPE), layers.Rescaling(1 / 255), *model.layers[1:]])
    labels = model(IMAGES).numpy().argmax(1)
    for attack in (PGD(epsilon=0.1, steps=3), Square(epsilon=0.1, queries=20)):
        expected = attack(model, IMAGES, labels)
        assert expected.success.any()
        classifier = adapt(pixels, preprocess=lambda images: 255 * images)
        found = attack(classifier, IMAGES, labels)
        np.testing.assert_array_equal(found.success, expected.success)
        np.testing.assert_allclose(found.adversarial, expected.adversarial, atol=1e-5)
    function = adapt(lambda x: model(x).numpy(), preprocess=lambda images: images[:, ::-1])
    function.prepare(IMAGES)
    np.testing.assert_allclose(function.predict(IMAGES), model(IMAGES[:, ::-1]), atol=1e-5)


def test_models_of_bytes_get_the_nearest_ones(tmp_path):
    """255 * (k / 255) is not always k, and what is cut off is another image."""
    pixels = keras.Input(SHAPE, dtype="uint8")
    model = keras.Model(pixels, base()(layers.Rescaling(1 / 255)(pixels)))
    model.export(tmp_path / "saved", verbose=False)
    grey = np.arange(240, dtype=np.uint8).reshape(-1, *SHAPE)
    images, labels = grey.astype(np.float32) / 255, model(grey).numpy().argmax(1)
    for each in (model, tmp_path / "saved"):
        with pytest.raises(InputError, match=r"input_range"):
            adapt(each)
        adapted = adapt(each, input_range=(0, 255))
        adapted.prepare(images)
        np.testing.assert_allclose(adapted.predict(images), model(grey), atol=1e-5)
        with pytest.raises(InputError, match="model must be differentiable"):
            FGSM()(adapted, images, labels)


def test_what_was_refused_is_refused_again():
    class Two(keras.Model):
        def call(self, images):
            return images, images

    model = Two()
    for _ in range(2):
        with pytest.raises(InputError, match="output must be one of 0, 1"):
            classifier_of(model).prepare(IMAGES)


def test_resizing_preprocessing_may_change_the_shape():
    model = base()
    small = adapt(model, preprocess=lambda images: images[:, ::2, ::2])
    images = np.repeat(np.repeat(IMAGES, 2, 1), 2, 2)
    labels = model(IMAGES).numpy().argmax(1)
    result = PGD(epsilon=0.2, steps=5)(small, images, labels)
    assert result.adversarial.shape == images.shape
    assert result.success.any()


def test_a_classifier_counts_classes():
    assert classifier_of(base()).prepare(IMAGES) == 4
    assert classifier_of(lambda x: np.zeros((len(x), 7), np.float32)).prepare(IMAGES) == 7


def fail(images):
    raise RuntimeError("no more\nqueries today")


def nan(images):
    return np.full((len(images), 4), np.nan, np.float32)


class Random(layers.Layer):
    """Noise at inference, as dropout left on would make it."""

    def call(self, inputs):
        return inputs + tf.random.normal(tf.shape(inputs))


def unfit_models():
    model = base()
    images, logits = model.inputs[0], model.outputs[0]
    second = keras.Input(SHAPE, name="second")
    hard = layers.Lambda(lambda x: tf.one_hot(tf.argmax(x, -1), 4))(logits)
    steps = layers.Lambda(lambda x: tf.stop_gradient(x))(logits)
    mapped = keras.Model(images, model.layers[1].output)
    one = keras.Model(images, layers.Dense(1, activation="softmax")(logits))
    both = keras.Model([images, second], model(layers.Add()([images, second])))
    pair = {"scores": logits, "features": model.layers[2].output}
    pixels = keras.Input(SHAPE, dtype="uint8")
    whole = keras.Model(pixels, model(layers.Rescaling(1 / 255)(pixels)))
    flat = keras.Sequential([keras.Input((30,)), layers.Dense(4)])
    return [
        (both, r"one input, of images; received 2: keras_tensor.*, second \(None, 6, 5, 1\)"),
        (keras.Model(images, pair), "output must be one of scores, features .* received None"),
        (flat, r"model must take images \[N, H, W, C\]; its input is \(None, 30\)"),
        (whole, r"take 0 to 255, and images here are in \[0, 1\].*input_range=\(0, 255\)"),
        (mapped, r"model must return logits \[N, classes\]; it returned shape \(8, 4, 3, 3\)"),
        (one, "its softmax over one output is always 1. Did you mean a sigmoid"),
        (keras.Model(images, hard), "exactly 0 and 1 .* cannot be recovered"),
        (keras.Model(images, steps), "model must be differentiable"),
        (keras.Model(images, Random()(logits)), "the same logits each time.*dropout"),
        (Subclassed(lambda x: tf.nn.softmax(x, -1)), "model must return logits"),
        (fail, "fail raised RuntimeError: no more queries today"),
        (nan, "finite logits; received NaN or infinity for 8 of 8 images"),
        (lambda x: [1, 2], "must return one float array .* received a list"),
        (lambda x: np.zeros(len(x), int), "received int64 of shape"),
        (lambda x: np.zeros((3, 4), np.float32), r"it returned shape \(3, 4\) for 8 images"),
        (lambda x: np.eye(4, dtype=np.float32)[np.zeros(len(x), int)], "cannot be recovered"),
        (7, "model must be a keras.Model, a path or a function .* received int"),
    ]


def renormalized(probabilities):
    return probabilities / probabilities.sum(1, keepdims=True)


@pytest.mark.parametrize("scale", [0.0, 1.0, 50.0])
@pytest.mark.parametrize(
    ("classes", "kind"),
    [
        (4, lambda z: tf.nn.softmax(z).numpy()),
        (4, lambda z: renormalized(np.clip(tf.nn.softmax(z), 1e-7, 1 - 1e-7))),
        (2, lambda z: tf.nn.softmax(z).numpy()),
        (4, lambda z: tf.sigmoid(z).numpy()),
        (1, lambda z: tf.sigmoid(z).numpy()),
    ],
)
def test_clipped_probabilities_are_refused(classes, kind, scale):
    """Where logits give a robust accuracy of 0, attacks on these would find nothing."""
    logits = scale * np.random.default_rng(0).normal(1, 3, (8, classes))
    probabilities = np.clip(kind(logits), 1e-7, 1 - 1e-7).astype(np.float32)
    if scale < 50:
        assert read_outputs(probabilities).are_probabilities
        return
    with pytest.raises(InputError, match=r"model must return logits; .* clipped to 1e-07 for some"):
        read_outputs(probabilities)
    assert read_outputs(probabilities, strict=False).are_probabilities


UNFIT = unfit_models()


@pytest.mark.parametrize("case", range(len(UNFIT)))
def test_unfit_models_get_one_clear_line(case):
    model, message = UNFIT[case]
    attack = Square() if callable(model) and not isinstance(model, keras.Model) else FGSM()
    with pytest.raises(InputError, match=message) as caught:
        attack(model, IMAGES, base()(IMAGES).numpy().argmax(1))
    assert "\n" not in str(caught.value)


def test_one_that_fails_in_the_middle_says_so():
    calls = []

    def scores(images):
        calls.append(len(images))
        if len(calls) > 6:
            raise TimeoutError("gone")
        return np.concatenate([images[:, 0, :2, 0], np.zeros((len(images), 1))], 1)

    labels = scores(IMAGES).argmax(1)
    with pytest.raises(InputError, match=r"model must take images .* raised TimeoutError: gone"):
        Square(queries=50)(scores, IMAGES, labels)
