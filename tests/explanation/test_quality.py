import numpy as np
import pytest
import tensorflow as tf
from scipy.ndimage import gaussian_filter, sobel
from scipy.stats import spearmanr

from robustcls.evaluation.intervals import estimate
from robustcls.explanation.methods.maps import Maps
from robustcls.explanation.quality.assessment import assess, randomization, stability
from robustcls.explanation.quality.faithfulness import _blurred, faithfulness
from robustcls.explanation.quality.similarity import spearman, ssim


def edges(images, classes):
    """Finds edges, whatever the model."""
    gray = images.mean(-1)
    return Maps(np.hypot(sobel(gray, 1), sobel(gray, 2)).astype(np.float32))


@pytest.fixture(scope="module")
def assessed(explainer, pictures):
    methods = {"gradients": "gradients", "grad_cam": "grad_cam", "edges": edges}
    return assess(explainer, methods, *pictures, seed=0)


def test_maps_of_a_trained_model_beat_random_maps(assessed):
    for method in ("gradients", "grad_cam"):
        found = assessed[method].faithfulness
        assert found.beats_random, method
        assert found.gain.low > 0
        assert found.insertion.mean > found.random_insertion.mean
        assert assessed[method].explains_this_model
        assert assessed[method].verdict == "Finds what counts."


def test_random_maps_do_not(explainer, pictures):
    """But for one in forty, which is what a 95 % interval allows."""
    images, labels = pictures
    beaten = []
    for seed in range(12):
        noise = Maps(np.random.default_rng(seed).random(images.shape[:3]).astype(np.float32))
        beaten.append(faithfulness(explainer, noise, images, labels, seed=seed).beats_random)
    assert sum(beaten) <= 2


def test_an_edge_detector_is_flagged(assessed):
    assert assessed["edges"].randomization.mean == 1
    assert not assessed["edges"].explains_this_model
    assert "Does not explain this model" in assessed["edges"].verdict


def test_curves_begin_and_end_where_they_must(assessed, explainer, pictures):
    images, labels = pictures
    found = assessed["grad_cam"].faithfulness
    logits = explainer.classifier.predict(images)
    odds = np.exp(logits - logits.max(-1, keepdims=True))
    own = np.take_along_axis(odds / odds.sum(-1, keepdims=True), labels[:, None], 1).mean()
    assert found.curves["deletion"][0] == pytest.approx(own, abs=1e-5)
    assert found.curves["insertion"][-1] == pytest.approx(own, abs=1e-5)
    assert found.curves["deletion"][-1] == pytest.approx(found.curves["insertion"][0], abs=1e-5)
    assert found.share[0] == 0
    assert found.share[-1] == 1


def test_the_best_order_is_better_than_the_worst(explainer, pictures):
    images, labels = pictures
    maps = explainer("gradients", images, labels)
    upside_down = Maps(maps.relevance.max() - maps.relevance)
    good = faithfulness(explainer, maps, images, labels)
    bad = faithfulness(explainer, upside_down, images, labels)
    assert good.gain.low > bad.gain.high


def test_stability_tells_smooth_from_chaotic(explainer, pictures):
    images, labels = pictures
    assert stability(explainer, "grad_cam", images, labels).mean > 0.8

    def chaos(images, classes):
        return Maps(np.modf(images[..., 0] * 1e4)[0].astype(np.float32))

    assert abs(stability(explainer, chaos, images, labels).mean) < 0.2


def test_randomization_leaves_the_model_alone(explainer, network, pictures):
    images, labels = pictures
    before = network.predict(images, verbose=0)
    randomization(explainer, "gradients", images, labels)
    np.testing.assert_array_equal(network.predict(images, verbose=0), before)


def test_spearman_and_ssim():
    generator = np.random.default_rng(0)
    maps = generator.random((3, 12, 12)).astype(np.float32)
    np.testing.assert_allclose(spearman(maps, maps), 1)
    np.testing.assert_allclose(spearman(maps, maps**3), 1)  # ranks alone count
    np.testing.assert_allclose(spearman(maps, -maps), -1)
    assert abs(spearman(maps, generator.random((3, 12, 12)))).max() < 0.4
    nothing = np.zeros_like(maps)
    np.testing.assert_array_equal(spearman(maps, nothing), 0)
    assert np.isnan(spearman(nothing, nothing)).all()  # empty maps do not agree
    assert np.isnan(spearman(nothing + 1, nothing + 2)).all()
    np.testing.assert_allclose(ssim(Maps(maps), Maps(maps)), 1)
    assert ssim(Maps(maps), Maps(0.2 * maps)).max() < 0.8  # on one scale, a faint map differs
    assert np.isnan(ssim(Maps(nothing, nothing), Maps(nothing, nothing))).all()


def test_what_is_nothing_in_both_maps_does_not_agree():
    """A patch of 5x5 in a map of 24x24, as of a model that crops its images, with rounding."""
    generator = np.random.default_rng(0)
    pair = 1e-9 * generator.random((2, 40, 24, 24)).astype(np.float32)
    pair[:, :, 3:8, 3:8] = generator.random((2, 40, 5, 5))
    assert abs(spearman(*pair).mean()) < 0.1
    inside = pair[:, :, 3:8, 3:8]
    expected = [
        spearmanr(first.ravel(), second.ravel()).statistic
        for first, second in zip(*inside, strict=True)
    ]
    np.testing.assert_allclose(spearman(*pair), expected, atol=1e-12)
    assert np.isnan(spearman(pair[0] * (pair[0] > 0.9), pair[0] * (pair[0] > 0.9))).any()
    published = tf.image.ssim(*pair[..., None], max_val=1.0).numpy()
    assert ssim(Maps(pair[0]), Maps(pair[1])).mean() < published.mean() - 0.3
    full = 0.1 + 0.9 * generator.random((2, 3, 24, 24)).astype(np.float32)
    expected = [  # with something everywhere it is the published one
        float(tf.image.ssim(*both[..., None], max_val=float(both.max())))
        for both in full.transpose(1, 0, 2, 3)
    ]
    np.testing.assert_allclose(ssim(Maps(full[0]), Maps(full[1])), expected, atol=1e-4)
    apart = np.zeros_like(pair[1])
    apart[:, 12:17, 12:17] = 1 + pair[1, :, 3:8, 3:8]
    assert spearman(pair[0], apart).max() < -0.5  # one here, the other there


def test_intervals_hold_what_they_promise():
    """Of 200 means of 40 draws each, about 95 % lie in the interval of another 40."""
    generator = np.random.default_rng(0)
    held = [estimate(generator.normal(0, 1, 40), seed=at) for at in range(200)]
    assert 0.88 < np.mean([found.low < 0 < found.high for found in held]) < 0.99


def test_a_wide_blur_is_nearly_a_normal_bell():
    """Of a megapixel the bell takes seconds, three boxes a fraction of one."""
    images = np.random.default_rng(0).random((1, 144, 160, 1)).astype(np.float32)
    images[:, :70] *= 0.2
    expected = gaussian_filter(images, (0, 18, 18, 0), mode="nearest")
    inside = np.s_[:, 60:84, 60:100]  # what is beyond the edge is blurred thrice
    np.testing.assert_allclose(_blurred(images)[inside], expected[inside], atol=0.01)
    small = images[:, :24, :24]
    np.testing.assert_array_equal(
        _blurred(small), gaussian_filter(small, (0, 3, 3, 0), mode="nearest")
    )
