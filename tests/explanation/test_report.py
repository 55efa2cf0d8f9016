import json

import keras
import numpy as np
import pytest

from robustcls import explain
from robustcls._validation import InputError
from robustcls.attacks import FGSM, PGD
from robustcls.data.splits import Split

NAMES = ("check", "columns", "<script>alert(1)</script>", "coarse")
ATTACK = PGD(epsilon=0.2, steps=5)


@pytest.fixture(scope="module")
def split(pictures):
    images, labels = pictures
    ids = np.array([f"folder/<b>{at}.png" for at in range(len(images))])
    return Split(np.round(images * 255).astype(np.uint8), labels, ids)


@pytest.fixture(scope="module")
def made(network, split, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    models = {"base": network, "twin": network}
    return explain(
        models,
        split,
        folder,
        attack=ATTACK,
        limit=6,
        quality_limit=4,
        measures=["sparseness"],
        class_names=NAMES,
        show_classes=True,
        batch_size=8,
    )


def test_the_files(made, network):
    records = [
        json.loads(line)
        for line in made.path.with_name("explanations.jsonl").read_text().splitlines()
    ]
    assert records == made.records
    assert len(records) == 12
    images = made.explained.images
    with np.load(made.path.parent / "maps" / "base.npz") as stored:
        np.testing.assert_array_equal(stored["images"], images)
        np.testing.assert_array_equal(stored["ids"], made.explained.ids)
        for name in ("gradients_positive", "adversarial_gradients_negative", "grad_cam_positive"):
            assert stored[name].shape == (6, 16, 16)
            assert stored[name].dtype == np.float32
        assert np.abs(stored["adversarial"] - images).max() <= 0.2 + 1e-6
        twins = stored["adversarial"]
    predicted = network.predict(twins, verbose=0).argmax(-1)
    for at, record in enumerate(records[:6]):
        assert record["model"] == "base"
        assert record["adversarial"][0]["class"] == predicted[at]
        assert record["flipped"] == (predicted[at] != record["explained"])
        top = [entry["probability"] for entry in record["clean"]]
        assert top == sorted(top, reverse=True)
        own = {entry["class"]: entry["probability"] for entry in record["adversarial"]}
        drop = record["clean"][0]["probability"] - own[record["explained"]]
        assert record["confidence_drop"] == pytest.approx(drop, abs=1e-6)
        for figures in record["maps"].values():
            assert -1 <= figures["ssim"] <= 1
            assert -1 <= figures["spearman"] <= 1
    assert sum(record["flipped"] for record in records) > 0


def test_the_page(made):
    html = made.path.read_text()
    assert "<script>alert" not in html
    assert "<b>" not in html
    for words in ("pgd5, L∞, epsilon 0.2", "Seed 0", "change × 2", "Spearman", "tensorflow"):
        assert words in html
    assert html.count('class="card"') == 6
    assert html.count('class="view"') == 12
    # 12 views of 3 photographs, 4 signed maps and 2 activation maps; 8 classes; the enlarged one.
    assert html.count("<img") == 12 * 9 + 8 + 1


def test_measures_are_in_the_page_and_in_files(made):
    html = made.path.read_text()
    for model in made.models:
        assert model.table.measures == ("gain", "randomization", "sparseness")
        assert f"Which maps of {model.name} may be believed, and why?" in html
        verdict = made.path.parent / "verdict" / f"{model.name}.md"
        assert verdict.read_text() == model.table.to_markdown()
        lines = verdict.with_suffix(".csv").read_text().splitlines()
        assert [line.split(",")[:2] for line in lines[1:]] == [
            [method, name] for method in model.maps for name in model.table.measures
        ]
    assert "Gini index of the pixels" in html


def test_only_and_classes_choose(network, split, tmp_path):
    settings = {"quality_limit": 0, "methods": ["gradients"], "class_names": NAMES}
    settings |= {"batch_size": 8, "attack": ATTACK}
    chosen = explain(network, split, tmp_path, only="flipped", limit=3, **settings)
    assert 1 <= len(chosen.explained.ids) <= 3
    assert chosen.models[0].flipped.all()
    chosen = explain(network, split, tmp_path, classes=["columns"], limit=50, **settings)
    assert len(chosen.explained.ids) == (split.labels == 1).sum()
    assert (chosen.explained.labels == 1).all()
    count = len(chosen.explained.ids)
    assert f"{count} images, all there are among 20; classes: columns." in chosen.path.read_text()
    few = explain(network, split, tmp_path, classes=["columns"], limit=count - 1, **settings)
    assert f"{count - 1} images, chosen at random from 20; classes" in few.path.read_text()
    wrong = Split(split.images, (split.labels + 1) % 4, split.ids)
    with pytest.raises(InputError, match=r"at least one image; none of 20 .* correct"):
        explain(network, wrong, tmp_path, only="correct", **settings)


def test_without_labels_or_attack(network, pictures, tmp_path):
    found = explain(network, (pictures[0][:2], None), tmp_path, quality_limit=0, batch_size=8)
    assert found.records[0]["label"] is None
    assert "adversarial" not in found.records[0]
    html = found.path.read_text()
    assert "No attack" in html
    assert "attacked" not in html.partition("<body>")[2].partition("<script>")[0]


def test_a_function_has_a_report_of_what_needs_outputs_alone(network, split, tmp_path):
    def function(images):
        return network.predict(images, verbose=0)

    settings = {"limit": 2, "quality_limit": 3, "class_names": NAMES, "batch_size": 8}
    found = explain(function, split, tmp_path, methods=["occlusion"], **settings)
    quality = found.models[0].quality["occlusion"]
    assert quality.randomization is None  # nobody can shuffle its weights
    assert "survives" not in quality.verdict
    assert "too little to compare" in found.path.read_text()
    with pytest.raises(InputError, match=r"received the function .*\['occlusion', 'rise', "):
        explain(function, split, tmp_path, **settings)


def test_a_hundred_photographs_stay_below_20_megabytes(tmp_path):
    """Noise is the worst case; larger pictures are shrunk until they are no larger than these."""
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((80, 80, 3)),
            layers.Conv2D(2, 3, strides=2),
            layers.GlobalMaxPooling2D(),
            layers.Dense(3),
        ]
    )
    images = np.random.default_rng(0).random((100, 80, 80, 3), dtype=np.float32)
    labels = np.zeros(100, np.int64)
    found = explain(model, (images, labels), tmp_path, attack=FGSM(), limit=100, quality_limit=0)
    assert found.path.stat().st_size < 20_000_000


def test_bad_input(network, split, tmp_path):
    (tmp_path / "file").write_text("")
    good = {"quality_limit": 0, "class_names": NAMES}
    cases = [
        ({"methods": []}, "methods must be one or more of"),
        ({"methods": ["gradient"]}, "Did you mean 'gradients'"),
        ({"only": "flipped"}, "attack must be given"),
        ({"only": "fliped"}, "Did you mean 'flipped'"),
        ({"classes": ["colums"]}, "Did you mean 'columns'"),
        ({"attack": PGD(targeted=True)}, "must not be targeted"),
        ({"attack": "pgd"}, "attack must be an attack such as"),
        ({"limit": 0}, "limit must be an integer >= 1"),
        ({"ids": ["a"]}, "ids must be 20 names; received 1"),
        ({"measures": ["sparsness"], "quality_limit": 2}, "Did you mean 'sparseness'"),
        ({"measures": ["mass_in_mask"], "quality_limit": 2}, "measures must be"),
        ({"measures": ["all"]}, "quality_limit must be at least 1 for measures; received 0"),
        ({"layer": "lasst"}, "Did you mean 'last'"),
    ]
    for settings, message in cases:
        with pytest.raises(InputError, match=message):
            explain(network, split, tmp_path / "report", **(good | settings))
    with pytest.raises(InputError, match="out must be a folder to write to"):
        explain(network, split, tmp_path / "file" / "report", **good)
    with pytest.raises(InputError, match="must do as file names"):
        explain({"../x": network}, split, tmp_path, **good)
    with pytest.raises(InputError, match="at least one image"):
        explain(network, split.take(slice(0, 0)), tmp_path, **good)
    with pytest.raises(InputError, match="must leave at least one image"):
        none = split.take(np.flatnonzero(split.labels != 1))
        explain(network, none, tmp_path, classes=["columns"], **good)
