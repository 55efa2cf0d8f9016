import keras
import numpy as np
import pytest
import tensorflow as tf

from anomaly.detection.training import Training
from anomaly.ognet import OGNet, build_discriminator, build_generator
from anomaly.ognet import phases as ognet_phases
from anomaly.ognet import pieces as ognet_pieces
from anomaly.ognet.phases import PhaseOne, PhaseTwo
from anomaly.ognet.pieces import _warp, join_pieces
from robustcls import InputError

SHAPE = (20, 20, 1)


@pytest.fixture
def networks():
    return build_generator(SHAPE, 1 / 16), build_discriminator(SHAPE, 1 / 16)


@pytest.fixture
def images():
    return np.random.default_rng(0).random((6, *SHAPE), np.float32)


def phase_two(generator, old, discriminator, pseudo_anomalies="pieces", averaging=0.0):
    return PhaseTwo(
        generator,
        old,
        discriminator,
        old_weight=0.001,
        image_weight=0.1,
        pseudo_anomalies=pseudo_anomalies,
        averaging=averaging,
        seed=0,
    )


def test_the_tuned_networks():
    """Four valid 5×5 convolutions and back; strides of two to the discriminator's one logit."""
    generator, discriminator = build_generator((45, 45, 1), 1), build_discriminator((45, 45, 1), 1)
    encoder = [generator.get_layer(f"encoder_{n}") for n in (1, 2, 3, 4)]
    assert [layer.filters for layer in encoder] == [64, 128, 256, 512]
    assert encoder[3].output.shape == (None, 29, 29, 512)
    decoder = [generator.get_layer(f"decoder_{n}").filters for n in (4, 3, 2, 1)]
    assert decoder == [256, 128, 64, 1]
    assert generator.output_shape == (None, 45, 45, 1)
    assert discriminator.get_layer("discriminator_4").output.shape == (None, 3, 3, 512)
    assert discriminator.output_shape == (None,)
    # Not the paper's: batch norm alone.
    kinds = [type(layer).__name__ for layer in discriminator.layers]
    assert kinds.count("BatchNormalization") == 3
    assert kinds.count("ReLU") == 1


def convolve(x, kernel, bias, stride=1, padding=0):
    """A convolution tap by tap, float64 [N, H, W, C]."""
    x = np.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    height, width = ((side - 5) // stride + 1 for side in x.shape[1:3])
    out = np.zeros((len(x), height, width, kernel.shape[3])) + bias
    for row, column in np.ndindex(5, 5):
        rows = slice(row, row + stride * (height - 1) + 1, stride)
        columns = slice(column, column + stride * (width - 1) + 1, stride)
        out += x[:, rows, columns] @ kernel[row, column]
    return out


def spread(x, kernel, bias):
    """A transposed convolution: every pixel adds its kernel, [5, 5, out, in], to what it covers."""
    count, height, width, _ = x.shape
    out = np.zeros((count, height + 4, width + 4, kernel.shape[2])) + bias
    for row, column in np.ndindex(5, 5):
        out[:, row : row + height, column : column + width] += x @ kernel[row, column].T
    return out


def normalize(x, gamma, beta, mean, variance):
    return gamma * (x - mean) / np.sqrt(variance + 1e-5) + beta


def relu(x):
    return np.maximum(x, 0)


def papers_generator(images, weights):
    """The authors' G, line by line; `weights` in the order of their layers."""
    take = iter(weights).__next__
    x = images
    for _ in range(2):
        x = convolve(x, take(), take())
        x = relu(normalize(x, take(), take(), take(), take()))
    for _ in range(2):
        x = relu(convolve(x, take(), take()))
        x = normalize(x, take(), take(), take(), take())
    code = x
    for _ in range(3):
        x = spread(x, take(), take())
        x = relu(normalize(x, take(), take(), take(), take()))
    return np.tanh(spread(x, take(), take())), code


def papers_discriminator(images, weights):
    """The authors' D."""
    take = iter(weights).__next__
    x = images
    for _ in range(3):
        x = convolve(x, take(), take(), stride=2, padding=2)
        x = relu(normalize(x, take(), take(), take(), take()))
    x = relu(convolve(x, take(), take(), stride=2, padding=2))
    logits = x.reshape(len(x), -1) @ take() + take()
    return 1 / (1 + np.exp(-logits[:, 0]))


def draw_weights(network, seed):
    """Draws weights that keep the scale of what goes through, biases and statistics included."""
    generator = np.random.default_rng(seed)
    drawn = []
    for variable in network.weights:
        shape = variable.shape
        if variable.name == "kernel":
            fan_in = shape[3 if "decoder" in variable.path else -2] * np.prod(shape[:-2])
            value = generator.normal(0, (2 / fan_in) ** 0.5, shape)
        elif variable.name in ("gamma", "moving_variance"):
            value = generator.uniform(0.5, 1.5, shape)
        else:
            value = generator.normal(0, 0.3, shape)
        drawn.append(value.astype(np.float32))
    network.set_weights(drawn)
    return [value.astype(np.float64) for value in drawn]


def test_the_papers_networks_on_equal_weights():
    """Sides of 21 and 20, so that every padding shows, at width 1."""
    shape = (21, 20, 1)
    detector = OGNet.paper(image_shape=shape)
    detector.networks = detector.build()
    weights = {name: draw_weights(net, 3) for name, net in detector.networks.items()}
    images = np.random.default_rng(0).random((2, *shape), np.float32)
    made, code = papers_generator(2.0 * images - 1, weights["generator"])
    assert made.std() > 0.1
    np.testing.assert_allclose(2 * detector.reconstruct(images) - 1, made, atol=1e-4)
    np.testing.assert_allclose(detector.encode(images), code.mean((1, 2)), atol=1e-4)
    judged = papers_discriminator(made, weights["discriminator"])
    assert 0.01 < judged.min() < judged.max() - 0.01 < 0.98
    probabilities = 1 - np.exp(-detector.score(images).astype(float))
    np.testing.assert_allclose(probabilities, judged, atol=1e-5)


def test_the_paper_at_its_own_size():
    detector = OGNet.paper(image_shape=(45, 45, 1))
    networks = detector.build()
    assert networks["generator"].output_shape == (None, 45, 45, 1)
    assert [w.shape for w in networks["discriminator"].weights][-2:] == [(4608, 1), (1,)]
    # Counted by hand from the list of the authors' layers.
    counts = {
        name: sum(w.numpy().size for w in n.trainable_weights) for name, n in networks.items()
    }
    assert counts == {"generator": 8_609_025, "discriminator": 4_308_865}


def test_what_else_is_the_papers():
    detector = OGNet.paper(image_shape=SHAPE, epochs=5, false_alarm_rate=0.1, width=0.5)
    assert (detector.epochs, detector.false_alarm_rate, detector.width) == (5, 0.1, 0.5)
    assert (detector.old_epochs, detector.iterations, detector.averaging) == (1, 75, 0)
    assert (detector.noise, detector.adversarial_weight) == (0.81, 0.5)
    assert (detector.old_weight, detector.image_weight) == (0.001, 0.1)
    assert (detector.learning_rate, detector.discriminator_rate) == (1e-3, 1e-4)
    assert detector.pseudo_anomalies == "means"
    for wrong in ({"width": -1}, {"widths": 1}, {"image_shape": (18, 18, 1)}, {"epochs": 1}):
        (name,) = wrong
        with pytest.raises(InputError, match=name):
            OGNet.paper(**{"image_shape": SHAPE} | wrong)


def test_batch_norm_sees_each_kind_of_images_alone(networks, images):
    """In the paper's phase two; the mean of a batch of one kind is then what D subtracts."""
    model = phase_two(*networks, networks[1])
    parts = [tf.constant(images + shift) for shift in (0, 1, 2, 3)]
    together = float(model._loss(networks[1], parts, training=True))
    model.apart = True
    soft = [
        np.logaddexp(0, networks[1](part, training=True) * sign).mean()
        for part, sign in zip(parts, (1, 1, -1, -1), strict=True)
    ]
    expected = np.dot(soft, (0.1, 0.9, 0.001, 0.999))
    apart = float(model._loss(networks[1], parts, training=True))
    assert apart == pytest.approx(expected, rel=1e-4)
    assert abs(apart - together) > 1e-3


def test_phase_one_updates_the_discriminator_before_the_generator(networks, images, monkeypatch):
    generator, discriminator = networks
    model = PhaseOne(generator, discriminator, noise=0.81, adversarial_weight=0.5, seed=0)
    model.compile(keras.optimizers.SGD(0.1), keras.optimizers.SGD(0.1))
    seen = []
    original = ognet_phases.cross_entropy

    def watch(logits, target):
        weights = [v.numpy().copy() for v in discriminator.trainable_variables]
        seen.append((target, weights))
        return original(logits, target)

    monkeypatch.setattr(ognet_phases, "cross_entropy", watch)
    before = [v.numpy().copy() for v in generator.trainable_variables]
    model.train_step((tf.constant(images), None))
    # Images are good, 0, reconstructions bad, 1; the generator wants 0 of the updated one.
    assert [target for target, _ in seen] == [0.0, 1.0, 0.0]
    assert all((a == b).all() for a, b in zip(seen[0][1], seen[1][1], strict=True))
    assert any((a != b).any() for a, b in zip(seen[1][1], seen[2][1], strict=True))
    changed = [(a != v).any() for a, v in zip(before, generator.trainable_variables, strict=True)]
    assert all(changed)


def test_phase_two_changes_the_discriminator_alone(networks, images):
    generator, discriminator = networks
    old = keras.models.clone_model(generator)
    model = phase_two(generator, old, discriminator)
    model.compile(keras.optimizers.SGD(0.5))
    frozen = [w.copy() for w in (*generator.get_weights(), *old.get_weights())]
    before = discriminator.get_weights()
    model.fit(images, np.zeros(6), batch_size=6, verbose=0)
    after = (*generator.get_weights(), *old.get_weights())
    assert all((a == b).all() for a, b in zip(frozen, after, strict=True))
    assert any((a != b).any() for a, b in zip(before, discriminator.get_weights(), strict=True))
    assert {id(v) for v in model.trainable_variables} == {
        id(v) for v in (*model.learner.trainable_variables, *discriminator.trainable_variables)
    }
    # Without averaging it is what was learned last.
    learned = zip(discriminator.get_weights(), model.learner.get_weights(), strict=True)
    assert all((a == b).all() for a, b in learned)


def test_the_discriminator_is_the_average_of_what_was_learned(networks, images):
    """Its weights follow the learner's, from the first step's on, less and less."""
    model = phase_two(*networks, networks[1], averaging=0.1)
    model._reconstruct = model._reconstruct_badly = lambda images: images
    model.compile(keras.optimizers.SGD(0.5))
    expected = None
    for step in range(4):
        model.train_step((tf.constant(images), None))
        kept = min(0.1, step / (step + 10))
        now = model.learner.get_weights()
        if step:
            now = [kept * a + (1 - kept) * b for a, b in zip(expected, now, strict=True)]
        expected = now
    for mean, value in zip(networks[1].get_weights(), expected, strict=True):
        np.testing.assert_allclose(mean, value, rtol=1e-5, atol=1e-6)
    assert any(
        np.abs(a - b).max() > 1e-3
        for a, b in zip(expected, model.learner.get_weights(), strict=True)
    )


def test_pseudo_anomalies_mix_two_different_images(networks, images):
    """With networks that give back what they get, they are the mean of neighbours."""
    model = phase_two(*networks, networks[1], pseudo_anomalies="means")
    model._reconstruct = model._reconstruct_badly = lambda images: images
    whole, good, bad, pseudo = model._parts(tf.constant(images), 0)
    np.testing.assert_array_equal(whole, good)
    np.testing.assert_array_equal(whole, bad)
    np.testing.assert_allclose(pseudo, (images + np.roll(images, 1, 0)) / 2, atol=1e-6)
    assert np.abs(pseudo - images).max((1, 2, 3)).min() > 0.1


def test_pieces_go_through_the_generator_alone(networks, images):
    """Bad reconstructions would give the pseudo-anomalies away by their texture."""
    model = phase_two(*networks, networks[1])
    model._reconstruct = lambda images: images + 10
    model._reconstruct_badly = lambda images: images * 0
    *_, pseudo = model._parts(tf.constant(images), 7)
    expected = join_pieces(tf.constant(images), 0, 7) + 10
    np.testing.assert_allclose(pseudo, expected, atol=1e-6)


def only(monkeypatch, kind):
    """Makes `join_pieces` draw one kind alone."""
    shares = {name: int(name == kind) for name in ognet_pieces._SHARES}
    monkeypatch.setattr(ognet_pieces, "_SHARES", shares)


def test_kinds_are_drawn_by_their_shares(monkeypatch):
    images = tf.constant(np.random.default_rng(0).random((260, *SHAPE), np.float32))
    mixed = join_pieces(images, 0, 3).numpy()
    shares = dict(ognet_pieces._SHARES)
    found = np.zeros(260, int)
    for kind in shares:
        with monkeypatch.context() as patch:
            only(patch, kind)
            alone = join_pieces(images, 0, 3).numpy()
        same = np.abs(alone - mixed).max((1, 2, 3)) < 1e-6
        expected = shares[kind] / sum(shares.values())
        assert same.mean() == pytest.approx(expected, abs=0.06), kind
        found += same
    assert (found == 1).all()
    np.testing.assert_array_equal(mixed, join_pieces(images, 0, 3))
    assert (np.abs(mixed - join_pieces(images, 0, 4)).max((1, 2, 3)) > 0.1).mean() > 0.9
    assert (np.abs(mixed - join_pieces(images, 1, 3)).max((1, 2, 3)) > 0.1).mean() > 0.9


@pytest.mark.parametrize(("kind", "low", "high"), [("patched", 0.1, 0.3), ("joined", 0.4, 0.6)])
def test_a_piece_of_each_image_is_of_another_one(kind, low, high, monkeypatch):
    """Image i is all i, its background too, so what comes from another one shows."""
    only(monkeypatch, kind)
    images = tf.fill((64, *SHAPE), 1.0) * tf.range(64.0)[:, None, None, None]
    joined = join_pieces(images, 0, 3).numpy()
    own = np.isclose(joined, images).mean((1, 2, 3))
    other = np.isclose(joined, np.roll(images, 1, 0)).mean((1, 2, 3))
    np.testing.assert_allclose(own + other, 1)
    assert own.min() > 0
    assert other.min() > 0
    assert low < other.mean() < high


def test_an_erased_rectangle_is_background(monkeypatch):
    only(monkeypatch, "erased")
    images = np.random.default_rng(0).random((64, *SHAPE), np.float32)
    images[:, [0, -1]] = images[:, :, [0, -1]] = -1
    joined = join_pieces(tf.constant(images), 0, 3).numpy()
    assert ((joined == images) | (np.abs(joined + 1) < 1e-6)).all()
    assert (joined != images).any((1, 2, 3)).all()


def test_overlays_take_what_is_further_from_the_background(monkeypatch):
    only(monkeypatch, "overlaid")
    monkeypatch.setattr(ognet_pieces, "_warp", lambda images, draws: images)
    images = np.random.default_rng(0).random((8, *SHAPE), np.float32)
    images[:, [0, -1]] = images[:, :, [0, -1]] = 0
    expected = np.maximum(images, np.roll(images, 1, 0))
    np.testing.assert_allclose(join_pieces(tf.constant(images), 0, 3), expected, atol=1e-6)
    # Dark strokes on a bright background are overlaid just as well.
    dark = join_pieces(tf.constant(1 - images), 0, 3)
    np.testing.assert_allclose(dark, 1 - expected, atol=1e-6)


def test_an_image_is_bent_smoothly(monkeypatch):
    """Coordinates as values: what a pixel holds says where it comes from."""
    only(monkeypatch, "bent")
    ramps = np.stack(np.meshgrid(np.arange(20.0), np.arange(24.0), indexing="ij"), -1)
    images = tf.constant(np.repeat(ramps[None].astype(np.float32), 40, 0))
    moved = join_pieces(images, 0, 3).numpy() - images.numpy()
    inner = moved[:, 6:14, 6:18]
    # Independent of each other, 0.18 of the side at the grid's points and less between them.
    assert 0.08 < inner[..., 0].std() / 20 < 0.2
    assert 0.08 < inner[..., 1].std() / 24 < 0.2
    assert abs(np.corrcoef(inner[..., 0].ravel(), inner[..., 1].ravel())[0, 1]) < 0.2
    assert np.abs(np.diff(inner, axis=1)).mean() < np.abs(inner).mean() / 2


def test_both_is_joined_and_then_bent(monkeypatch):
    images = tf.constant(np.random.default_rng(0).random((8, *SHAPE), np.float32))
    with monkeypatch.context() as patch:
        only(patch, "joined")
        joined = join_pieces(images, 0, 3)
    key = tf.constant([0, 3], tf.int64)
    only(monkeypatch, "both")
    np.testing.assert_allclose(
        join_pieces(images, 0, 3), ognet_pieces._bend(joined, key), atol=1e-6
    )


def test_pieces_are_turned_and_scaled_but_stay_in_the_middle():
    """A dot in the middle stays within the shift; a bar at one side gets to all sides."""
    dot = np.zeros((200, 21, 21, 1), np.float32)
    dot[:, 10, 10] = 1
    draws = list(tf.random.stateless_uniform([6, 200], [0, 1]))
    warped = _warp(tf.constant(dot), draws).numpy()
    assert warped[:, :6].max() == warped[:, 15:].max() == 0
    assert (warped.max((1, 2, 3)) > 0).mean() > 0.9
    bar = np.zeros((200, 21, 21, 1), np.float32)
    bar[:, 3:5, 8:13] = 1
    warped = _warp(tf.constant(bar), draws).numpy()
    for side in (warped[:, :7], warped[:, 14:], warped[:, :, :7], warped[:, :, 14:]):
        assert (side.max((1, 2, 3)) > 0.5).mean() > 0.1


def test_the_weights_of_phase_two():
    logits = {1: 0.3, 2: -0.7, 3: 1.1, 4: -0.2}

    def judge(parts, training):
        return tf.constant([logits[int(part[0, 0, 0])] for part in parts])

    model = phase_two(None, None, build_discriminator(SHAPE, 1 / 16))
    parts = [tf.fill((1, 2, 2, 1), float(number)) for number in logits]
    soft = {number: np.logaddexp(0, value) for number, value in logits.items()}
    expected = 0.1 * soft[1] + 0.9 * soft[2] + 0.001 * (soft[3] - 1.1) + 0.999 * (soft[4] + 0.2)
    assert float(model._loss(judge, parts, training=False)) == pytest.approx(expected, rel=1e-5)


@pytest.fixture
def phase_two_stage(images, monkeypatch):
    """A function that returns the model, the epochs and the steps of a detector's phase two."""
    stages = {}

    def keep(self, training, stage, model, epochs, steps=None):
        stages[stage] = (model, epochs, steps)

    monkeypatch.setattr(OGNet, "run_stage", keep)

    def get(detector):
        detector.networks = detector.build()
        detector.train(Training(images=images, validation=images))
        return stages["3_discriminator"]

    return get


def test_the_rate_of_phase_two_ends_at_zero(phase_two_stage):
    detector = OGNet(image_shape=SHAPE, width=1 / 16, batch_size=2, iterations=10)
    model, epochs, steps = phase_two_stage(detector)
    assert (epochs, steps) == (4, 3)
    rate = model.optimizer._learning_rate
    assert float(rate(0)) == pytest.approx(detector.phase_two_rate)
    assert float(rate(epochs * steps)) == pytest.approx(0, abs=1e-9)
    assert not model.apart


def test_the_papers_phase_two_is_at_a_constant_rate(phase_two_stage):
    settings = {"width": 1 / 16, "discriminator_width": 1 / 16, "batch_size": 2}
    model, epochs, steps = phase_two_stage(OGNet.paper(image_shape=SHAPE, **settings))
    assert epochs * steps == 75
    assert float(model.optimizer.learning_rate) == pytest.approx(5e-5)
    assert not callable(model.optimizer._learning_rate)
    assert model.apart


def test_the_score_is_the_loss_of_being_good(images):
    detector = OGNet(image_shape=SHAPE, width=1 / 16)
    detector.networks = detector.build()
    generator, discriminator = detector.networks["generator"], detector.networks["discriminator"]
    logits = discriminator(generator(2 * images - 1)).numpy()
    scores = detector.score(images)
    np.testing.assert_allclose(scores, -np.log(1 - 1 / (1 + np.exp(-logits))), rtol=1e-4)
    np.testing.assert_allclose(
        detector.reconstruct(images), (generator(2 * images - 1) + 1) / 2, atol=1e-6
    )


@pytest.mark.parametrize(
    "settings",
    [
        {"epochs": 1},
        {"old_epochs": 10},
        {"old_epochs": 0},
        {"iterations": -1},
        {"width": 0},
        {"discriminator_width": 0},
        {"precision": "float16"},
        {"noise": -1},
        {"adversarial_weight": 1.5},
        {"pseudo_anomalies": "mean"},
        {"old_weight": 2},
        {"image_weight": -0.1},
        {"averaging": 1.5},
        {"phase_two_rate": 0},
        {"phase_two_decay": 1},
        {"architecture": "papers"},
        {"image_shape": (18, 28, 1)},
    ],
)
def test_settings_out_of_range(settings):
    (name,) = settings
    with pytest.raises(InputError, match=f"{name} must be"):
        OGNet(**{"image_shape": SHAPE, "epochs": 10} | settings)


@pytest.mark.exhaustive
def test_networks_in_bfloat16(normal_images, other_normal_images, defective_images, tmp_path):
    detector = OGNet(
        image_shape=(28, 28, 1), batch_size=32, iterations=14, epochs=6, precision="mixed_bfloat16"
    )
    detector.fit(normal_images, validation=other_normal_images, verbose=0)
    for network, last in (("generator", "encoder_4"), ("discriminator", "discriminator_4")):
        layer = detector.networks[network].get_layer(last)
        assert (layer.compute_dtype, layer.variable_dtype) == ("bfloat16", "float32")
    scores = detector.score(other_normal_images)
    # Logits in bfloat16 would be few values for many images.
    assert detector.networks["discriminator"].get_layer("logits").compute_dtype == "float32"
    assert np.median(detector.score(defective_images)) > np.quantile(scores, 0.9)
    for values in (scores, detector.encode(defective_images), detector.reconstruct(normal_images)):
        assert values.dtype == np.float32
    np.testing.assert_array_equal(
        OGNet.load(detector.save(tmp_path)).score(other_normal_images), scores
    )
