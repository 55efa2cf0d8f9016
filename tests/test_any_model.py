"""Keras models as users have them, through every entry: the right value in each cell.

All models but one are the same classifier in other clothes: two classes, the difference of whose
logits is linear in the pixels, so that what an attack, a map or an export must find can be computed
by hand.
"""

import asyncio
import copy
import importlib
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras.src.applications import efficientnet_v2

import robustcls as rc
from robustcls._command_line.modules import import_named_modules
from robustcls.cli import main
from robustcls.explanation.methods.gradients import class_gradients
from robustcls.explanation.methods.registry import METHODS
from robustcls.serving.checking.fresh_process import check_case, check_signatures, read_cases
from robustcls.serving.checking.parity import TOLERANCE
from robustcls.serving.exports.configuration import find_models
from robustcls.serving.exports.warmup import WARMUP_FILE
from robustcls.serving.server.engine import Engine, Limits
from robustcls.serving.server.rest_api import make_app

pytestmark = pytest.mark.slow

layers = keras.layers
SHAPE = (8, 8, 1)
EPSILON = 0.01
DRAWS = np.random.default_rng(0)
KERNEL = DRAWS.normal(0, 1, (3, 3, 1, 4)).astype(np.float32)
HEAD = DRAWS.normal(0, 4, (4, 2)).astype(np.float32)
# Far enough from the edges that no attack is clipped.
IMAGES = DRAWS.uniform(0.3, 0.7, (24, *SHAPE)).astype(np.float32)


def slopes():
    """What each pixel adds to the difference of the logits, float64 [8, 8]."""
    found = np.zeros(SHAPE[:2])
    kernel = (KERNEL[:, :, 0].astype(float) @ (HEAD[:, 1] - HEAD[:, 0]).astype(float)) / 36
    for row in range(6):
        for column in range(6):
            found[row : row + 3, column : column + 3] += kernel
    return found


SLOPES = slopes()
BIAS = -float(np.median((IMAGES[..., 0] * SLOPES).sum((1, 2))))
DIFFERENCE = (IMAGES[..., 0] * SLOPES).sum((1, 2)) + BIAS
LABELS = (DIFFERENCE > 0).astype(np.int64)
LABELS[:3] = 1 - LABELS[:3]
# The whole ball moves the difference by epsilon for each pixel's slope, and by no more.
STANDS = np.where(LABELS == 1, DIFFERENCE, -DIFFERENCE) > EPSILON * np.abs(SLOPES).sum()


def constant(values):
    return keras.initializers.Constant(values)


def body(single=False, activation=None, **settings):
    """The layers of the classifier for images in [0, 1]."""
    head = HEAD[:, 1:] - HEAD[:, :1] if single else HEAD
    bias = np.array([BIAS] if single else [0, BIAS], np.float32)
    return [
        layers.Conv2D(4, 3, use_bias=False, kernel_initializer=constant(KERNEL), **settings),
        layers.GlobalAveragePooling2D(**settings),
        layers.Dense(
            len(bias),
            activation=activation,
            kernel_initializer=constant(head),
            bias_initializer=constant(bias),
            **settings,
        ),
    ]


def sequential(*steps):
    return keras.Sequential([keras.Input(SHAPE), *steps])


@keras.saving.register_keras_serializable("tests")
class Subclassed(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.steps = body(activation="softmax")

    def call(self, images):
        for step in self.steps:
            images = step(images)
        return images


def several_outputs():
    images = keras.Input(SHAPE, name="image")
    conv, pool, head = body()
    features = pool(conv(images))
    return keras.Model({"image": images}, {"scores": head(features), "features": features})


MODELS = {
    "pixels 0 to 255": (lambda: sequential(layers.Rescaling(1 / 255), *body()), (0, 255)),
    "pixels -1 to 1": (lambda: sequential(layers.Rescaling(0.5, 0.5), *body()), (-1, 1)),
    "softmax": (lambda: sequential(*body(activation="softmax")), None),
    "sigmoids": (lambda: sequential(*body(activation="sigmoid"), layers.Reshape((2,))), None),
    "one logit": (lambda: sequential(*body(single=True), layers.Reshape((1,))), None),
    "one sigmoid": (lambda: sequential(*body(single=True, activation="sigmoid")), None),
    "nested": (lambda: sequential(sequential(*body(activation="softmax"))), None),
    # As EfficientNet has it: a backbone within scales its own pixels, the head is outside.
    "nested backbone": (
        lambda: sequential(
            sequential(layers.Rescaling(1 / 255), *body()[:2]), body(activation="softmax")[2]
        ),
        (0, 255),
    ),
    "unbuilt": (lambda: keras.Sequential(body()), None),
    "subclassed": (Subclassed, None),
    "any size": (
        lambda: keras.Sequential([keras.Input((None, None, 1)), *body()]),
        None,
    ),
    "bfloat16": (lambda: sequential(*body(dtype="mixed_bfloat16")), None),
    "float64": (lambda: sequential(*body(dtype="float64")), None),
}
#: They return probabilities of a softmax.
WITH_SOFTMAX = {"softmax", "nested", "nested backbone", "subclassed"}
SAMPLES = np.round(255 * IMAGES).astype(np.uint8)
#: What a float of 8 bits after the point leaves of a figure.
COARSE = {"bfloat16": 2e-2}


# One more of a kind.
LIKE_OTHERS = {"nested", "any size", "float64", "one sigmoid"}


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(name, marks=[pytest.mark.exhaustive] if name in LIKE_OTHERS else [])
        for name in MODELS
    ],
)
def case(request):
    """(name, model, the arguments that its range needs)."""
    make, input_range = MODELS[request.param]
    given = {} if input_range is None else {"input_range": input_range}
    return request.param, make(), given


def own_answers(name, model, images):
    """Probabilities of the classes as the model itself gives them, float [N, 2]."""
    low, high = MODELS[name][1] or (0, 1)
    scores = np.asarray(tf.cast(model(low + (high - low) * images, training=False), tf.float32))
    if name == "sigmoids":
        return scores
    if scores.shape[1] == 1:
        scores = scores if name == "one sigmoid" else tf.sigmoid(scores).numpy()
        return np.concatenate([1 - scores, scores], 1)
    return scores if name in WITH_SOFTMAX else tf.nn.softmax(scores).numpy()


def test_the_table_tells_right_from_wrong():
    assert 0.2 < STANDS.mean() < 0.8
    assert ((DIFFERENCE > 0) == LABELS).mean() == 21 / 24


def loss_of(name):
    """The loss that a user gives, and the labels that it takes."""
    losses = keras.losses
    if name == "sigmoids":
        return losses.BinaryCrossentropy(), np.eye(2, dtype=np.float32)[LABELS]
    if name.startswith("one"):
        return losses.BinaryCrossentropy(from_logits=name == "one logit"), LABELS
    on_logits = name not in WITH_SOFTMAX
    return losses.SparseCategoricalCrossentropy(from_logits=on_logits), LABELS


def test_train(case):
    """One step without a learning rate reports what can be computed by hand; then weights move."""
    name, _, given = case
    model = MODELS[name][0]()
    loss, labels = loss_of(name)
    low, high = given.get("input_range", (0, 1))
    pixels = low + (high - low) * IMAGES
    trainer = rc.AdversarialRegularization(model, step_size=EPSILON, **given)
    trainer.compile(keras.optimizers.SGD(0.0), loss)
    found = trainer.fit(pixels, labels, batch_size=24, verbose=0).history
    own = own_answers(name, model, IMAGES)
    right = own[np.arange(24), LABELS]
    wrong = own[np.arange(24), 1 - LABELS]
    expected = -np.log(right) - (np.log(1 - wrong) if name == "sigmoids" else 0)
    expected = expected.mean() / (2 if name == "sigmoids" else 1)
    assert found["clean_loss"][0] == pytest.approx(expected, rel=COARSE.get(name, 1e-4))
    # The loss of several sigmoids does not go along the difference of two.
    if name != "sigmoids":
        allowed = 2 / 24 if name in COARSE else 1e-6
        assert found["adversarial_accuracy"][0] == pytest.approx(STANDS.mean(), abs=allowed)
    before = model.get_weights()
    trainer.optimizer.learning_rate = 0.1
    trainer.fit(pixels, labels, batch_size=24, verbose=0)
    assert any((a != b).any() for a, b in zip(before, model.get_weights(), strict=True))


def test_evaluate(case):
    name, model, given = case
    attack = rc.attacks.FGSM(epsilon=EPSILON)
    found = rc.evaluate(model, (IMAGES, LABELS), attacks=[attack], corruptions=None, **given)
    allowed = 2 / 24 if name in COARSE else 1e-9
    expected = {"clean": 21 / 24, "fgsm": STANDS.mean()}
    assert found.accuracies == pytest.approx(expected, abs=allowed)


def test_attack(case):
    name, model, given = case
    attacked = rc.attacks.adapt(model, **given)
    result = rc.attacks.PGD(epsilon=EPSILON, steps=3)(attacked, IMAGES, LABELS)
    assert np.abs(result.adversarial - IMAGES).max() <= EPSILON + 1e-6
    difference = (result.adversarial[..., 0] * SLOPES).sum((1, 2)) + BIAS
    for found in (result.success, (difference > 0) != LABELS):
        assert (found == STANDS).sum() <= (3 if name in COARSE else 0)


def test_explain(case):
    """The logits' difference has the same slope at every image."""
    name, model, given = case
    explainer = rc.Explainer(model, batch_size=4, **given)
    both = [explainer("gradients", IMAGES[:4], np.full(4, label)).signed for label in (0, 1)]
    tolerance = COARSE.get(name, 1e-4) * np.abs(SLOPES).max()
    np.testing.assert_allclose(both[1] - both[0], np.repeat(SLOPES[None], 4, 0), atol=tolerance)
    expected = own_answers(name, model, IMAGES[:4])
    np.testing.assert_allclose(explainer.predict(IMAGES[:4]), expected, atol=COARSE.get(name, 1e-5))
    if name == "subclassed":
        with pytest.raises(rc.InputError, match=r"the layers of 'subclassed.*cannot be told apart"):
            explainer("grad_cam", IMAGES[:4], LABELS[:4])
    else:
        assert explainer("grad_cam", IMAGES[:4], LABELS[:4]).positive.shape == (4, 8, 8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("exports")


@pytest.fixture(scope="module")
def version(case, folder):
    """The version that an export of the model wrote."""
    name, model, given = case
    served = name.replace(" ", "_")
    names = ("left", "right")
    return rc.export(
        model, folder / served, class_names=names, name=served, images=SAMPLES, **given
    )


def test_export_and_check(case, version):
    name, model, _ = case
    loaded = tf.saved_model.load(str(version))
    answer = loaded.signatures["serving_default"](images=tf.constant(IMAGES))
    expected = own_answers(name, model, IMAGES)
    tolerance = COARSE.get(name, 1e-5)
    np.testing.assert_allclose(answer["probabilities"], expected, atol=tolerance)
    if name not in COARSE:
        np.testing.assert_array_equal(answer["classes"], DIFFERENCE > 0)
    kept = read_cases(version / "assets.extra" / "cases.npz")
    checks = [check_signatures(loaded.signatures, kept)]
    for signature, (inputs, outputs) in kept.items():
        checks += check_case(signature, loaded.signatures[signature], inputs, outputs, TOLERANCE)
    assert {"explain: positive", "classify: scores"} <= {check["check"] for check in checks}
    assert [check for check in checks if not check["passed"]] == []


def served_by_the_server(version, images, post):
    """The probabilities that the local server answers with."""
    (version / WARMUP_FILE).unlink()  # takes longer than all else

    async def ask():
        engine = Engine(find_models(version.parent), Limits(), batching=False)
        await engine.registry.scan()
        path = f"/v1/models/{version.parent.name}:predict"
        answer = await post(make_app(engine), path, {"instances": images.tolist()})
        await engine.close()
        return answer["predictions"]

    return [row["probabilities"] for row in asyncio.run(ask())]


def test_serve(case, version, post):
    name, model, _ = case
    expected = own_answers(name, model, IMAGES[:5])
    served = served_by_the_server(version, IMAGES[:5], post)
    np.testing.assert_allclose(served, expected, atol=COARSE.get(name, 1e-5))


def test_one_of_several_outputs(tmp_path):
    model = several_outputs()
    data, attack = (IMAGES, LABELS), rc.attacks.FGSM(epsilon=EPSILON)
    with pytest.raises(rc.InputError, match=r"output must be one of .*scores.* received None"):
        rc.evaluate(model, data)
    for output in ("scores", 0):
        found = rc.evaluate(model, data, attacks=[attack], corruptions=None, output=output)
        assert found.accuracies == {"clean": 21 / 24, "fgsm": STANDS.mean()}
    explainer = rc.Explainer(model, output="scores", batch_size=4)
    assert explainer("grad_cam", IMAGES[:4], LABELS[:4]).positive.any()
    version = rc.export(model, tmp_path, class_names=("a", "b"), output="scores", images=IMAGES)
    answer = tf.saved_model.load(str(version)).signatures["serving_default"](images=IMAGES)
    np.testing.assert_array_equal(answer["classes"], DIFFERENCE > 0)


def test_accuracy_says_which_range_a_model_wants():
    """A model whose layers say nothing, trained on bytes as they are."""
    conv, pool, head = body()
    images = keras.Input(SHAPE)
    model = keras.Model(images, head(pool(conv(images))))
    conv.set_weights([KERNEL / 255])
    right = (DIFFERENCE > 0).astype(int)
    with pytest.raises(rc.InputError, match=r"right on 12 in \[0, 1\] and on 24 .*\(0, 255\)"):
        rc.evaluate(model, (IMAGES, right))
    with pytest.raises(rc.InputError, match=r"input_range=\(0, 255\)"):
        rc.attacks.FGSM(epsilon=EPSILON)(model, IMAGES, right)
    given = {"input_range": (0, 255), "corruptions": None}
    assert rc.evaluate(model, (IMAGES, right), **given)["clean"].accuracy == 1
    as_it_is = rc.evaluate(model, (IMAGES, right), corruptions=None, input_range=(0, 1))
    assert as_it_is["clean"].accuracy == 0.5


def test_labels_of_every_form():
    model = sequential(*body())
    one_hot = np.eye(2)[LABELS]
    for labels in (LABELS[:, None], one_hot, one_hot.astype(bool)):
        found = rc.evaluate(model, (IMAGES, labels), corruptions=None)
        assert found["clean"].accuracy == 21 / 24
    for labels, message in (
        (np.where(LABELS, "cat", "dog"), r"received .* the like. Did you mean np\.unique"),
        (0.7 * one_hot, r"one-hot rows of 0 and 1.*argmax\(-1\)"),
    ):
        with pytest.raises(rc.InputError, match=message):
            rc.evaluate(model, (IMAGES, labels))


def sliced(shape, *steps):
    """A model of images in another layout, behind the layers that make it [N, 8, 8, 1]."""
    return keras.Sequential([keras.Input(shape), *steps, *body()])


class Half(keras.Model):
    """Probabilities of two classes, or of the second, in half precision."""

    def __init__(self, single):
        super().__init__()
        self.steps = body(single=single, activation="sigmoid" if single else "softmax")

    def call(self, images):
        for step in self.steps:
            images = step(images)
        return keras.ops.cast(images, "float16")


def listed():
    images = keras.Input(SHAPE)
    conv, pool, head = body()
    return keras.Model([images], [head(pool(conv(images)))])


FORMS = {
    "no channel": lambda: sliced((8, 8), layers.Reshape(SHAPE)),
    "channels first": lambda: sliced((1, 8, 8), layers.Permute((2, 3, 1))),
    "lambda first": lambda: sequential(layers.Lambda(lambda x: x + 0.0), *body()),
    "temperature": lambda: sequential(*body(), layers.Rescaling(0.1)),
    "flat sigmoid": lambda: sequential(
        *body(single=True, activation="sigmoid"), layers.Reshape(())
    ),
    "two in one": lambda: sequential(
        *body(activation="softmax"), layers.Reshape((1, 2)), layers.Flatten()
    ),
    "softmax in a lambda": lambda: sequential(
        *body(), layers.Lambda(lambda x: keras.ops.softmax(x))
    ),
    "sigmoid in a lambda": lambda: sequential(
        *body(single=True), layers.Lambda(lambda x: keras.ops.sigmoid(x))
    ),
    "half": lambda: Half(False),
    "half, single": lambda: Half(True),
    "list": listed,
    "trainer": lambda: rc.AdversarialRegularization(sequential(*body())),
}


@pytest.mark.parametrize("name", FORMS)
def test_other_forms_are_measured_alike(name):
    attack = rc.attacks.FGSM(epsilon=EPSILON)
    found = rc.evaluate(FORMS[name](), (IMAGES, LABELS), attacks=[attack], corruptions=None)
    assert found.accuracies == {"clean": 21 / 24, "fgsm": STANDS.mean()}


def test_a_softmax_over_one_output_is_no_classifier():
    model = sequential(*body(single=True, activation="softmax"))
    with pytest.raises(rc.InputError, match="softmax over one output is always 1"):
        rc.evaluate(model, (IMAGES, LABELS))


def test_without_a_gradient_there_is_one_line():
    stopped = sequential(*body(), layers.Lambda(keras.ops.stop_gradient))
    rounded = sequential(layers.Lambda(lambda x: keras.ops.round(255 * x) / 255), *body())
    line = "model must be differentiable; its logits have no"
    # Methods for models with other parts than these.
    other = "model must have (ReLUs|layers of self-attention) .* has none"
    no_gradient = {"occlusion", "rise", "kernel_shap", "score_cam"}
    of_pixels = {name for name in METHODS if "grad" in name and "cam" not in name}
    of_layers = set(METHODS) - of_pixels - {"guided_backpropagation", "attention_rollout"}
    for model, possible in ((stopped, no_gradient), (rounded, of_layers)):
        explainer = rc.Explainer(model, batch_size=2)
        for method in METHODS:
            if method in possible:
                assert explainer(method, IMAGES[:2], LABELS[:2]).positive.shape == (2, 8, 8)
                continue
            with pytest.raises(rc.InputError, match=f"{line}|{other}"):
                explainer(method, IMAGES[:2], LABELS[:2])


def test_eager_functions():
    model = sequential(*body(activation="softmax"))
    tf.config.run_functions_eagerly(True)
    try:
        result = rc.attacks.PGD(epsilon=EPSILON, steps=2)(model, IMAGES, LABELS)
        explainer = rc.Explainer(model, batch_size=2)
        maps = [explainer(name, IMAGES[:2], LABELS[:2]) for name in ("gradients", "grad_cam")]
    finally:
        tf.config.run_functions_eagerly(False)
    np.testing.assert_array_equal(result.success, ~STANDS)
    assert all(np.isfinite(found.positive).all() for found in maps)


def test_a_missing_class_is_named_and_imported(tmp_path, monkeypatch):
    source = "import keras\nclass Same(keras.Layer):\n    def call(self, x):\n        return x\n"
    (tmp_path / "layers_of_mine.py").write_text(source)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*sys.path, str(tmp_path)])
    same = importlib.import_module("layers_of_mine").Same
    sequential(*body(), same()).save("own.keras")
    del sys.modules["layers_of_mine"]
    with pytest.raises(rc.InputError, match=r"needs the class Same.* --import MODULE"):
        rc.evaluate("own.keras", (IMAGES, LABELS))
    try:
        assert import_named_modules(["--import", "layers_of_mine", "x"]) == ["x"]
        found = rc.evaluate("own.keras", (IMAGES, LABELS), corruptions=None)
    finally:
        keras.saving.get_custom_objects().pop("Same", None)
        sys.modules.pop("layers_of_mine", None)
    assert found["clean"].accuracy == 21 / 24


@pytest.mark.slow
def test_a_file_through_the_commands(tmp_path, capsys):
    head = layers.Dense(10, activation="sigmoid")
    steps = [layers.Rescaling(1 / 255), layers.Conv2D(4, 5, strides=4), layers.Flatten(), head]
    model = keras.Sequential([keras.Input((28, 28, 1)), *steps])
    path = tmp_path / "ten.keras"
    model.save(path)
    with_data = ["--data", "fashion_mnist_mini"]
    few = ["--limit", "2", "--quality_limit", "0", "--methods", "gradients", "--attack", "fgsm"]
    for command in (["explain", *with_data, *few], ["export", *with_data]):
        with pytest.raises(SystemExit) as stopped:
            main([command[0], str(path), *command[1:]])
        assert stopped.value.code == 2
        assert "--input_range 0 255" in capsys.readouterr().err
        main([command[0], str(path), *command[1:], "--input_range", "0", "255"])
    records = (tmp_path / "ten-explanation" / "explanations.jsonl").read_text().splitlines()
    assert len(records) == 2
    version = tmp_path / "ten-export" / "1"
    images = DRAWS.random((3, 28, 28, 1)).astype(np.float32)
    served = tf.saved_model.load(str(version)).signatures["serving_default"](images=images)
    np.testing.assert_allclose(served["probabilities"], model(255 * images), atol=1e-5)
    for command in (["explain", str(path)], ["export", str(path), "--format", "onnx"]):
        with pytest.raises(SystemExit):
            main([*command, "--input_range", "0,255"])
        assert "data must name the images" in capsys.readouterr().err


@pytest.fixture(scope="module")
def efficientnet():
    """The first blocks of EfficientNetV2, whose own scaling is inside, nested under a softmax."""
    keras.utils.set_random_seed(0)
    blocks = copy.deepcopy(efficientnet_v2.DEFAULT_BLOCKS_ARGS["efficientnetv2-b0"][:3])
    inner = efficientnet_v2.EfficientNetV2(
        **{"width_coefficient": 0.5, "depth_coefficient": 0.5, "default_size": 32},
        **{"drop_connect_rate": 0, "blocks_args": blocks, "name": "efficientnetv2"},
        **{"weights": None, "include_top": False, "input_shape": (32, 32, 3), "pooling": "avg"},
        weights_name="none",
    )
    return keras.Sequential([inner, layers.Dense(3, activation="softmax")])


PHOTOS = DRAWS.uniform(0.2, 0.8, (6, 32, 32, 3)).astype(np.float32)
ANSWERS = np.arange(6) % 3


@pytest.mark.long
def test_a_nested_efficientnet_is_attacked_explained_and_trained_like_itself(efficientnet):
    """Its own scaling is found inside; attacks, maps and the loss are what a tape gives."""
    with pytest.raises(rc.InputError, match=r"input_range=\(0, 255\)"):
        rc.evaluate(efficientnet, (PHOTOS, ANSWERS))
    judged = rc.attacks.adapt(efficientnet, input_range=(0, 255))
    found = rc.attacks.FGSM(epsilon=0.01)(judged, PHOTOS, ANSWERS)
    points = tf.constant(PHOTOS)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(points)
        scores = efficientnet(255 * points)
        loss = keras.losses.sparse_categorical_crossentropy(ANSWERS, scores)
        ratio = tf.math.log(scores[:, 1] / scores[:, 0])
    moved = PHOTOS + 0.01 * np.sign(tape.gradient(loss, points))
    right = scores.numpy().argmax(1) == ANSWERS
    expected = efficientnet(255 * moved).numpy().argmax(1) != ANSWERS
    assert right.any()
    np.testing.assert_array_equal(found.success[right], expected[right])

    report = rc.evaluate(efficientnet, (PHOTOS, ANSWERS), corruptions=None, input_range=(0, 255))
    assert report.accuracies == {"clean": right.mean()}

    explainer = rc.Explainer(judged, batch_size=6)
    one, two = (class_gradients(explainer, PHOTOS, np.full(6, label)) for label in (1, 0))
    slopes = tape.gradient(ratio, points).numpy()
    found = explainer("gradients", PHOTOS, np.full(6, 1)).positive
    np.testing.assert_allclose(found, np.maximum(one, 0).max(-1), atol=1e-6 * np.abs(one).max())
    np.testing.assert_allclose(one - two, slopes, atol=1e-3 * np.abs(slopes).max())

    trainer = rc.AdversarialRegularization(efficientnet, step_size=0.01, input_range=(0, 255))
    trainer.compile(keras.optimizers.SGD(0.0), "sparse_categorical_crossentropy")
    expected = keras.losses.sparse_categorical_crossentropy(
        ANSWERS, efficientnet(255 * PHOTOS, training=True)
    )
    logged = trainer.fit(255 * PHOTOS, ANSWERS, batch_size=6, verbose=0).history
    assert logged["clean_loss"][0] == pytest.approx(np.mean(expected), rel=1e-3)
    assert logged["adversarial_loss"][0] > logged["clean_loss"][0]


@pytest.mark.long
def test_a_nested_efficientnet_is_served_like_itself(efficientnet, tmp_path, post):
    names, given = ("a", "b", "c"), {"input_range": (0, 255), "images": PHOTOS}
    version = rc.export(efficientnet, tmp_path / "net", class_names=names, name="net", **given)
    loaded, expected = tf.saved_model.load(str(version)), efficientnet(255 * PHOTOS)
    kept = read_cases(version / "assets.extra" / "cases.npz")
    checks = [
        check
        for signature, (inputs, outputs) in kept.items()
        for check in check_case(signature, loaded.signatures[signature], inputs, outputs, TOLERANCE)
    ]
    assert [check for check in checks if not check["passed"]] == []
    served = served_by_the_server(version, PHOTOS, post)
    np.testing.assert_allclose(served, expected, atol=1e-5)


def test_ten_models_in_a_row_are_traced_in_silence(caplog):
    for _ in range(10):
        model = sequential(*body(activation="softmax"))
        rc.attacks.FGSM()(model, IMAGES[:2], LABELS[:2])
        rc.Explainer(model, batch_size=2)("gradients", IMAGES[:2], LABELS[:2])
    assert "retracing" not in caplog.text
