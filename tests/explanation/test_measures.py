"""Every measure is equal to a plain reference, image by image, written from its definition."""

import csv
import io

import keras
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from scipy.stats import entropy, spearmanr

from robustcls._validation import InputError
from robustcls.attacks import draws
from robustcls.evaluation.intervals import Estimate
from robustcls.explanation.explainer import Explainer
from robustcls.explanation.methods.maps import Maps
from robustcls.explanation.quality.believing import belief
from robustcls.explanation.quality.measures import fidelity, remove_and_debias
from robustcls.explanation.quality.measures.registry import MEASURES
from robustcls.explanation.quality.measures.remove_and_debias import SHARES, paint_over
from robustcls.explanation.quality.measures.trial import NEIGHBOURS, RADIUS, Trial
from robustcls.explanation.quality.ranking import ranking
from robustcls.explanation.quality.table import quality_table

SIDE, COUNT = 8, 6


@pytest.fixture(scope="module")
def explainer():
    """Of a model of rows 2 to 5 and columns 2 to 5 alone."""
    normal = [keras.initializers.RandomNormal(stddev=0.8, seed=seed) for seed in range(3)]
    images = keras.Input((SIDE, SIDE, 1))
    inside = keras.layers.Cropping2D(((2, 2), (2, 2)))(images)
    maps = keras.layers.Conv2D(
        4, 3, padding="same", activation="relu", kernel_initializer=normal[0]
    )
    hidden = keras.layers.Flatten()(maps(inside))
    logits = keras.layers.Dense(3, kernel_initializer=normal[1])(hidden)
    return Explainer(keras.Model(images, logits), batch_size=4)


@pytest.fixture(scope="module")
def pictures(explainer):
    images = np.random.default_rng(0).random((COUNT, SIDE, SIDE, 1)).astype(np.float32)
    return images, explainer.predict(images).argmax(-1)


@pytest.fixture(scope="module")
def masks():
    found = np.zeros((COUNT, SIDE, SIDE), bool)
    found[:, 2:6, 2:6] = True
    return found


@pytest.fixture(scope="module")
def trials(explainer, pictures, masks):
    shared = {}
    return {
        method: Trial(explainer, method, explainer(method, *pictures), *pictures, masks, 0, shared)
        for method in ("gradients", "integrated_gradients")
    }


def logit(explainer, image, label):
    return explainer.classifier.predict(image[None].astype(np.float32))[0, label]


def ranked(trial, at):
    return np.argsort(-trial.maps.relevance[at].ravel(), kind="stable")


def slow_deletion(trial, at):
    """Black alone, as integrated gradients are measured."""
    image, label = trial.images[at].copy().reshape(-1), trial.classes[at]
    heights, order = [], ranked(trial, at)
    for point in range(11):
        image[order[: round(point / 10 * SIDE * SIDE)]] = 0
        heights.append(trial.explainer.predict(image.reshape(1, SIDE, SIDE, 1))[0, label])
    return np.trapezoid(heights, dx=0.1)


def slow_insertion(trial, at):
    image, label = np.zeros(SIDE * SIDE, np.float32), trial.classes[at]
    heights, order = [], ranked(trial, at)
    for point in range(11):
        shown = order[: round(point / 10 * SIDE * SIDE)]
        image[shown] = trial.images[at].reshape(-1)[shown]
        heights.append(trial.explainer.predict(image.reshape(1, SIDE, SIDE, 1))[0, label])
    return np.trapezoid(heights, dx=0.1)


def subsets(trial, at):
    """(sum of the map, what the logit loses) of each subset."""
    image, label = trial.images[at], trial.classes[at]
    found = []
    for mask in fidelity._subsets(trial)[0]:
        behind = logit(trial.explainer, image * mask[..., None], label)
        found.append((mask, logit(trial.explainer, image, label) - behind))
    return found


def slow_mu_fidelity(trial, at):
    pairs = [(trial.maps.relevance[at][mask == 0].sum(), lost) for mask, lost in subsets(trial, at)]
    return spearmanr(*zip(*pairs, strict=True)).statistic


def slow_infidelity(trial, at):
    maps = trial.maps.signed[at]
    if not trial.maps.attribution:
        maps = maps * trial.images[at, ..., 0]
    sums, lost = map(
        np.array,
        zip(*((maps[mask == 0].sum(), lost) for mask, lost in subsets(trial, at)), strict=True),
    )
    best = (sums * lost).sum() / (sums**2).sum()
    return np.mean((best * sums - lost) ** 2) / np.mean(lost**2)


def slow_road(trial, at):
    image, label = trial.images[at], trial.classes[at]
    keys = draws.derive(draws.image_keys(trial.images), 0)
    noise = draws.normal(keys, image.shape)[at]
    stays = []
    for share in SHARES:
        gone = np.zeros(SIDE * SIDE, bool)
        gone[ranked(trial, at)[: int(share * SIDE * SIDE)]] = True
        gone = gone.reshape(SIDE, SIDE)
        painted = image[..., 0].astype(float)
        painted[gone] = 0.5
        for _ in range(2000):  # until every missing pixel is the mean of its neighbours
            before = painted.copy()
            for row, column in np.argwhere(gone):
                total = weight = 0
                for down, right in np.ndindex(3, 3):
                    near = row + down - 1, column + right - 1
                    if (down, right) != (1, 1) and min(near) >= 0 and max(near) < SIDE:
                        share_of = 1 / 6 if 1 in (down, right) else 1 / 12
                        total += share_of * painted[near]
                        weight += share_of
                painted[row, column] = total / weight
            if np.abs(painted - before).max() < 1e-7:
                break
        painted = np.clip(painted + 0.01 * noise[..., 0] * gone, 0, 1)
        stays.append(
            trial.explainer.predict(painted[None, ..., None].astype("f4")).argmax() == label
        )
    return np.mean(stays)


def slow_max_sensitivity(trial, at):
    image, label = trial.images[at], trial.classes[at : at + 1]
    keys = draws.image_keys(trial.images)
    changes = []
    for number in range(NEIGHBOURS):
        noise = draws.uniform(draws.derive(keys, 0, number), image.shape)[at]
        near = np.clip(image + RADIUS * (2 * noise - 1), 0, 1).astype(np.float32)
        maps = trial.explainer(trial.method, near[None], label).signed[0]
        changes.append(np.linalg.norm(maps - trial.maps.signed[at]))
    return max(changes) / np.linalg.norm(trial.maps.signed[at])


def slow_sparseness(trial, at):
    """Gini as half the mean absolute difference of all pairs over the mean."""
    sizes = np.abs(trial.maps.signed[at]).ravel().astype(float)
    return np.abs(sizes[:, None] - sizes).mean() / (2 * sizes.mean())


def slow_complexity(trial, at):
    return entropy(np.abs(trial.maps.signed[at]).ravel().astype(float))


def slow_randomization(trial, at):
    inside = (at, slice(2, 6), slice(2, 6))
    other = trial.under_random_weights
    return spearmanr(
        trial.maps.relevance[inside].ravel(), other.relevance[inside].ravel()
    ).statistic


def slow_efficient_randomization(trial, at):
    before, after = (
        entropy(np.histogram(maps.signed[at].astype(float), 100)[0])
        for maps in (trial.maps, trial.under_random_weights)
    )
    return (after - before) / before


def slow_pointing_game(trial, at):
    top = np.unravel_index(trial.maps.relevance[at].argmax(), (SIDE, SIDE))
    return float(min(top) >= 2 and max(top) < 6)


def slow_mass_in_mask(trial, at):
    positive = np.maximum(trial.maps.relevance[at], 0)
    return positive[2:6, 2:6].sum() / positive.sum()


REFERENCES = {
    name.removeprefix("slow_"): function
    for name, function in list(globals().items())
    if name.startswith("slow_")
}


def test_every_measure_has_a_reference():
    assert REFERENCES.keys() | {"gain"} == set(MEASURES.built_in)


@pytest.mark.parametrize("name", REFERENCES)
def test_a_measure_is_what_its_definition_says(trials, name):
    for method, trial in trials.items():
        if name in ("deletion", "insertion") and method == "gradients":
            continue  # the mean of two such curves, see test_quality.py
        found = MEASURES[name].function(trial)
        expected = [REFERENCES[name](trial, at) for at in range(COUNT)]
        np.testing.assert_allclose(found, expected, atol=2e-5, err_msg=method)


def test_gain_is_insertion_less_deletion_less_that_of_random_maps(trials):
    trial = trials["gradients"]
    own, random = trial.curves, trial.random_curves
    areas = [
        np.trapezoid(curve, dx=0.1, axis=1)
        for curve in (own.insertion, own.deletion, random.insertion, random.deletion)
    ]
    expected = areas[0] - areas[1] - (areas[2] - areas[3])
    np.testing.assert_allclose(MEASURES["gain"].function(trial), expected, atol=1e-9)
    assert trials["integrated_gradients"].random_curves is not random  # another replacement


def test_painting_over():
    image = np.random.default_rng(0).random((5, 6, 3))
    gone = np.zeros((5, 6), bool)
    np.testing.assert_array_equal(paint_over(image, gone), image)
    gone[2, 3] = True
    expected = (image[1:4, 2:5] * np.array([[1, 2, 1], [2, 0, 2], [1, 2, 1]])[..., None] / 12).sum(
        (0, 1)
    )
    np.testing.assert_allclose(paint_over(image, gone)[2, 3], expected)
    assert np.ptp(paint_over(image, np.ones((5, 6), bool)), axis=(0, 1)).max() == 0


def test_many_pixels_are_painted_over_nearly_as_few_are(monkeypatch):
    generator = np.random.default_rng(0)
    image = gaussian_filter(generator.random((31, 40, 3)), (2, 2, 0))
    image = (image - image.min()) / np.ptp(image)
    blob = gaussian_filter(generator.random((31, 40)), 3)
    for gone in (generator.random((31, 40)) < 0.7, blob > np.quantile(blob, 0.4)):
        exact = paint_over(image, gone)
        monkeypatch.setattr(remove_and_debias, "_MANY", 20)
        found = paint_over(image, gone)
        monkeypatch.undo()
        np.testing.assert_allclose(found, exact, atol=0.01)
        np.testing.assert_array_equal(found[~gone], image[~gone])


def test_one_image_does_not_fill_a_batch():
    seen = []

    def scores(images):
        seen.append(len(images))
        return np.stack([images[:, 1, 1, 0], images[:, 5, 5, 0]], 1)

    images, classes = np.random.default_rng(0).random((1, 8, 8, 1)).astype(np.float32), np.zeros(1)
    explainer = Explainer(scores, batch_size=32)
    explainer.prepare(images)
    trial = Trial(explainer, "own", Maps(images[..., 0]), images, classes.astype(int))
    seen.clear()
    fidelity.mu_fidelity(trial)
    assert sum(seen) == fidelity.SUBSETS + 1


def test_empty_maps_have_no_figures(explainer, pictures, masks):
    nothing = Maps(np.zeros((COUNT, SIDE, SIDE), np.float32))
    trial = Trial(explainer, lambda images, classes: nothing, nothing, *pictures, masks)
    for name in MEASURES.built_in - {"gain", "deletion", "insertion", "road", "infidelity"}:
        assert np.isnan(MEASURES[name].function(trial)).all(), name
    np.testing.assert_allclose(MEASURES["infidelity"].function(trial), 1)


def edges(images, classes):
    return Maps(np.abs(np.diff(images[..., 0], axis=1, prepend=0)))


@pytest.fixture(scope="module")
def table(explainer, pictures, masks):
    methods = {name: name for name in ("gradients", "integrated_gradients")}
    methods |= {"edges": edges, "nothing": lambda images, _: Maps(np.zeros(images.shape[:3], "f4"))}
    return quality_table(explainer, methods, *pictures, masks=masks)


def test_the_table_says_what_may_be_believed(table):
    assert table.measures == tuple(MEASURES)
    assert table.beliefs["gradients"].level in ("yes", "with care")
    assert table.beliefs["integrated_gradients"].level in ("yes", "with care")
    assert table.beliefs["edges"].level == "no"
    assert "survive random weights" in table.beliefs["edges"].words
    assert table.beliefs["nothing"].words == "no: 6 of 6 maps are empty"
    assert table.estimates["integrated_gradients"]["mass_in_mask"].mean == pytest.approx(1)
    assert table.estimates["nothing"]["sparseness"] is None
    text = table.to_markdown()
    assert "| nothing | " in text
    assert "Kendall's W" not in text or table.ranking.concordance is not None
    rows = list(csv.DictReader(io.StringIO(table.to_csv())))
    assert len(rows) == 4 * len(MEASURES)
    assert rows[0]["method"] == "gradients"
    assert float(rows[0]["low"]) <= float(rows[0]["mean"]) <= float(rows[0]["high"])


def test_how_sure_the_order_is():
    generator = np.random.default_rng(0)
    noise = generator.normal(0, 0.1, (3, 40))
    good, fair, bad = noise + np.array([[2.0], [1.0], [0.0]])
    agreeing = {
        "good": {"gain": good, "deletion": -good, "complexity": -good},
        "fair": {"gain": fair, "deletion": -fair, "complexity": -fair},
        "bad": {"gain": bad, "deletion": -bad, "complexity": -bad},
    }
    found = ranking(agreeing)
    assert found.first["deletion"] == {"good": 1.0, "fair": 0.0, "bad": 0.0}
    assert found.concordance.mean == pytest.approx(1)
    against = agreeing | {"good": {"gain": good, "deletion": good, "complexity": -fair}}
    assert ranking(against).concordance.high < 0.9
    alike = {
        name: {"gain": values, "road": values} for name, values in zip("abc", noise, strict=True)
    }
    assert max(ranking(alike).first["gain"].values()) < 0.99
    assert ranking({"one": agreeing["good"]}).concordance is None


def test_the_rule_of_belief():
    def of(mean, off=0.1):
        return Estimate(mean, mean - off, mean + off, 10)

    good = {"gain": of(0.3), "randomization": of(0.1)}
    cases = [
        (good, 0, "yes"),
        (good, 6, "no"),
        (good | {"randomization": of(0.7)}, 0, "no"),
        (good | {"randomization": of(0.45)}, 0, "with care"),
        (good | {"randomization": None}, 0, "with care"),
        (good | {"gain": of(0.05)}, 0, "no"),
        (good | {"gain": None}, 0, "no"),
        (good | {"mu_fidelity": of(0.0)}, 0, "with care"),
        (good | {"mu_fidelity": of(0.4), "max_sensitivity": of(0.3)}, 0, "yes"),
        (good | {"max_sensitivity": of(1.3)}, 0, "with care"),
    ]
    for found, empty, level in cases:
        assert belief(found, empty=empty, count=10).level == level, found


def test_bad_input(explainer, pictures, masks):
    cases = [
        ({"masks": masks[:, :4]}, r"masks must be bool \(6, 8, 8\).* received bool \(6, 4, 8\)"),
        ({"masks": masks[:2]}, "one for each image"),
        ({"masks": masks.astype(float)}, "received float64"),
        ({"masks": ~masks & masks}, "masks must mark something"),
        ({"measures": ["pointing_game"]}, "masks must be given for the measure pointing_game"),
        ({"measures": ["gian"]}, "Did you mean 'gain'"),
        ({"measures": "gian"}, "Did you mean 'gain'"),
    ]
    for settings, message in cases:
        with pytest.raises(InputError, match=message):
            quality_table(explainer, ["gradients"], *pictures, **settings)
    for methods in (["gradient"], "gradient"):
        with pytest.raises(InputError, match="Did you mean 'gradients'"):
            quality_table(explainer, methods, *pictures)
    for returned in (1, Maps(pictures[0][:, :4, :, 0]), Maps(pictures[0][..., 0] * np.nan)):
        with pytest.raises(InputError, match="method 'own' must return Maps"):

            def own(images, classes, returned=returned):
                return returned

            explainer(own, *pictures)
    with pytest.raises(InputError, match="methods must be one or more of"):
        quality_table(explainer, [], *pictures)
    with pytest.raises(InputError, match="images must be a non-empty array"):
        quality_table(explainer, ["gradients"], pictures[0][:0], pictures[1][:0])
