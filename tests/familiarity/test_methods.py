"""Every method is what a slow, plain reading of its paper gives."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from scipy.special import logsumexp, softmax

import robustcls as rc
from robustcls.familiarity import FDBD, KNN, METHODS, ViM


def msp(known, feature, logits):
    return max(softmax(logits))


def energy(known, feature, logits):
    return np.log(sum(np.exp(value) for value in logits))


def knn(known, feature, logits):
    lengths = [np.linalg.norm(one) for one in known.features]
    distances = sorted(
        np.linalg.norm(one / length - feature / np.linalg.norm(feature))
        for one, length in zip(known.features, lengths, strict=True)
    )
    return 1 - distances[49] ** 2 / 2


def mahalanobis(known, feature, logits):
    means = {k: known.features[known.labels == k].mean(axis=0) for k in set(known.labels)}
    covariance = np.zeros((len(feature), len(feature)))
    for one, label in zip(known.features, known.labels, strict=True):
        covariance += np.outer(one - means[label], one - means[label]) / len(known.features)
    inverse = np.linalg.pinv(covariance, rcond=1e-6, hermitian=True)
    return -min((feature - mean) @ inverse @ (feature - mean) for mean in means.values())


def fdbd(known, feature, logits):
    own = int(np.argmax(logits))
    distances = []
    for other in range(len(logits)):
        if other != own:
            apart = known.weights[:, own] - known.weights[:, other]
            lead = feature @ apart + known.bias[own] - known.bias[other]
            distances.append(abs(lead) / np.linalg.norm(apart))
    return np.mean(distances) / np.linalg.norm(feature - known.features.mean(axis=0))


def vim(known, feature, logits):
    origin = -np.linalg.pinv(known.weights.T) @ known.bias
    centred = known.features - origin
    rest = np.linalg.svd(centred, full_matrices=True)[2][12:]  # half of 24 directions
    residual = np.linalg.norm(rest @ (feature - origin))
    alpha = known.logits.max(axis=1).mean() / np.linalg.norm(centred @ rest.T, axis=1).mean()
    # The paper's score is exp(virtual) / (Σ exp(logit) + exp(virtual)); the method's is the
    # logarithm of the others' share over it.
    return logsumexp(logits) - alpha * residual


REFERENCES = {
    "msp": msp,
    "energy": energy,
    "knn": knn,
    "mahalanobis": mahalanobis,
    "fdbd": fdbd,
    "vim": vim,
}


@pytest.fixture(scope="module")
def double(material):
    """The same in float64."""
    known = material.known
    numbers = {
        name: value.astype(np.float64)
        for name, value in vars(known).items()
        if getattr(value, "dtype", None) == np.float32
    }
    return dataclasses.replace(known, **numbers)


@pytest.mark.parametrize("name", sorted(METHODS.built_in))
def test_a_method_is_its_paper_s(name, material, double):
    draws = np.random.default_rng(2)
    # Known ones and others.
    features = np.concatenate([double.features[:8], draws.gamma(2, 0.5, (8, 24))])
    logits = features @ double.weights + double.bias
    found = material.fit(name).score_features(
        features.astype(np.float32), logits.astype(np.float32)
    )
    expected = [REFERENCES[name](double, *pair) for pair in zip(features, logits, strict=True)]
    # Of two large terms, which come near each other, a small one is left.
    tolerance = 1e-3 if name == "vim" else 2e-5
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=tolerance)


def test_both_spaces_of_vim_give_the_same(double):
    """What is left of features outside of a narrow space, and their part in a narrow rest."""
    features = np.random.default_rng(4).gamma(2, 0.5, (200, 24))
    logits = features @ double.weights + double.bias
    known = dataclasses.replace(double, features=features, logits=logits)
    centred = features + np.linalg.pinv(double.weights.T) @ double.bias
    directions = np.linalg.svd(centred)[2]
    for dimension, key in ((3, "principal"), (20, "rest")):
        method = ViM(dimension=dimension)
        state = method.fit(known)
        assert set(state) == {"origin", "scale", key}
        lengths = np.linalg.norm(centred @ directions[dimension:].T, axis=1)
        assert float(state["scale"]) == pytest.approx(logits.max(1).mean() / lengths.mean())
        expected = logsumexp(logits, axis=1) - state["scale"] * lengths
        np.testing.assert_allclose(method.score(features, logits, state), expected, rtol=1e-4)
    with pytest.raises(rc.InputError, match="dimension must be below 24"):
        ViM(dimension=24).fit(known)


@pytest.mark.parametrize("name", METHODS)
def test_contract(name, material):
    """Finite, each image by itself, with a gradient, the same after saving; the rate is kept."""
    fitted = material.fit(name)
    features, logits = material.held_out
    scores = fitted.score_features(features, logits)
    assert scores.shape == (len(features),)
    assert scores.dtype == np.float32
    assert np.mean(scores < fitted.threshold) <= 0.1
    one = fitted.score_features(features[3:4], logits[3:4])
    np.testing.assert_allclose(one, scores[3:4], rtol=1e-4, atol=1e-6)
    # The same image twice, far away, and nothing at all.
    odd = np.stack([np.zeros(24), np.full(24, 1e4), features[0], features[0]]).astype(np.float32)
    odd_logits = odd @ material.known.weights + material.known.bias
    with tf.GradientTape() as tape:
        given = tf.constant(odd), tf.constant(odd_logits)
        tape.watch(given)
        found = fitted._scored(*given, fitted._tensors())
    gradients = tape.gradient(found, given, unconnected_gradients="zero")
    assert all(np.isfinite(values).all() for values in (found, *gradients))


def test_few_images_and_few_classes():
    known = {
        "features": np.eye(3, dtype=np.float32)[[0, 1, 0]],
        "logits": np.float32([[1, 0], [0, 1], [1, 0]]),
        "labels": np.array([0, 1, 0]),
        "weights": np.ones((3, 2), np.float32),  # classes without a boundary between them
        "bias": np.zeros(2, np.float32),
        "independent": False,
    }
    known = rc.familiarity.Known(**known)
    for method in (KNN(), FDBD(), ViM(), METHODS["mahalanobis"]()):
        state = {name: np.float32(value) for name, value in method.fit(known).items()}
        assert np.isfinite(method.score(known.features, known.logits, state)).all()


@pytest.mark.parametrize(
    "settings",
    [
        (KNN, {"neighbors": 0}),
        (KNN, {"most_images": 0}),
        (ViM, {"dimension": 0}),
    ],
)
def test_settings_out_of_range(settings):
    kind, values = settings
    with pytest.raises(rc.InputError, match=next(iter(values))):
        kind(**values)
