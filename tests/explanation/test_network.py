"""What is explained is the model as it is: folded, copied, shuffled or trained on."""

import keras
import numpy as np
import pytest

from robustcls.explanation.explainer import Explainer
from robustcls.explanation.quality.assessment import randomization
from robustcls.explanation.quality.measures.trial import answers_alike

SIDE = 8
layers = keras.layers


def normalized(images=None):
    """With batch normalization, whose copy for quick passes has weights of its own."""
    keras.utils.set_random_seed(0)
    images = keras.Input((SIDE, SIDE, 1)) if images is None else images
    maps = layers.Conv2D(6, 3, padding="same", use_bias=False)(images)
    maps = layers.ReLU()(layers.BatchNormalization()(maps))
    return keras.Model(images, maps, name="backbone")


def headed(backbone):
    outputs = layers.Dense(3)(layers.Flatten()(backbone.output))
    return keras.Model(backbone.input, outputs)


def transfer(backbone):
    images = keras.Input((SIDE, SIDE, 1))
    pooled = layers.Flatten()(backbone(images))
    return keras.Model(images, layers.Dense(3, activation="softmax")(pooled))


def sequential(backbone):
    return keras.Sequential(
        [keras.Input((SIDE, SIDE, 1)), backbone, layers.Flatten(), layers.Dense(3)]
    )


@pytest.fixture(scope="module")
def few():
    images = np.random.default_rng(0).random((5, SIDE, SIDE, 1)).astype(np.float32)
    return images, np.array([0, 1, 2, 0, 1])


@pytest.mark.parametrize("make", [headed, transfer, sequential])
def test_random_weights_reach_every_copy(make, few):
    explainer = Explainer(make(normalized()), batch_size=2)
    before = explainer.predict(few[0]) if explainer.prepare(few[0]) else None
    maps = explainer("occlusion", *few).signed
    assert not answers_alike(explainer, few[0], 0)
    assert randomization(explainer, "gradients", *few) is not None
    with explainer.random_weights(0):
        shuffled = explainer.predict(few[0])
        # The logit that windows take from is the shuffled network's, too.
        lost = explainer("occlusion", *few).signed
        for image, label, found, score in zip(*few, lost, explainer.scores(few[0]), strict=True):
            dark = image.copy()
            dark[0, 0] = 0
            alone = score[label] - explainer.scores(dark[None])[0, label]
            assert found[0, 0] == pytest.approx(alone, abs=1e-4)
    assert np.abs(shuffled - before).max() > 1e-3
    np.testing.assert_allclose(explainer.predict(few[0]), before, atol=1e-6)
    np.testing.assert_allclose(explainer("occlusion", *few).signed, maps, atol=1e-5)


@pytest.mark.parametrize("make", [headed, transfer])
def test_a_model_that_was_trained_on_has_other_maps(make, few):
    model = make(normalized())
    explainer = Explainer(model, batch_size=2)
    methods = ("gradients", "hires_cam", "score_cam")
    before = {method: explainer(method, *few).signed for method in methods}
    generator = np.random.default_rng(1)
    model.set_weights([w + generator.normal(0, 0.3, w.shape) ** 2 for w in model.get_weights()])
    for method in methods:
        found = explainer(method, *few).signed
        assert np.abs(found - before[method]).max() > 1e-3, method
        afresh = Explainer(model, batch_size=2)(method, *few).signed
        np.testing.assert_allclose(found, afresh, atol=1e-5, err_msg=method)


def test_what_methods_share_is_found_out_once_and_forgotten(few):
    explainer = Explainer(headed(normalized()), batch_size=8)
    alone = {name: explainer(name, *few).signed for name in ("gradients", "grad_cam", "vargrad")}
    with explainer.shared.open():
        for _ in range(2):
            for name, maps in alone.items():
                np.testing.assert_allclose(explainer(name, *few).signed, maps, atol=1e-6)
        with explainer.random_weights(0):
            assert np.abs(explainer("gradients", *few).signed - alone["gradients"]).max() > 1e-4
        np.testing.assert_allclose(
            explainer("gradients", *few).signed, alone["gradients"], atol=1e-6
        )
    assert explainer.shared._kept is None
