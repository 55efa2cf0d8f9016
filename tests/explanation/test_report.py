import json
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from robustcls import explain
from robustcls._validation import InputError
from robustcls.attacks import FGSM, PGD
from robustcls.data.splits import Split
from robustcls.explanation.reports.figure import export_figure
from robustcls.explanation.reports.given.masks import read_masks

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
        show_neighbors=True,
        show_counterfactuals=True,
        show_concepts=True,
        training=split,
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
    for order in ("answers", "models", "methods", "attacked"):
        assert f'<option value="{order}">' in html
        assert html.count(f'data-by-{order}="') == 12
    for words in ("pgd5, L∞, epsilon 0.2", "Seed 0", "change × 2", "Spearman", "tensorflow"):
        assert words in html
    assert html.count('class="card"') == 6
    assert html.count('class="view"') == 12
    # 12 views of 3 photographs, 4 signed maps, 2 activation maps and 4 training images; 8 classes;
    # the enlarged one.
    concepts = sum(4 * min(4, len(c.images)) for model in made.models for c in model.concepts)
    changed = sum(int(model.counterfactuals.success.sum()) for model in made.models)
    assert html.count("<img") == 12 * 13 + 8 + 1 + concepts + 2 * changed
    assert concepts
    assert changed > 6


def test_other_images_are_in_the_records(made, split):
    for model, name in ((model, model.name) for model in made.models):
        records = [record for record in made.records if record["model"] == name]
        for at, record in enumerate(records):
            # The images explained are among the training images here, and most like themselves.
            assert record["nearest"][0]["id"] == record["id"]
            assert record["nearest"][0]["cosine"] == pytest.approx(1, abs=1e-5)
            assert record["nearest"][0]["label_name"] == record["label_name"]
            assert record["counterfactual"]["class"] != record["explained"]
            found = model.counterfactuals
            if found.success[at]:
                change = found.images[at] - made.explained.images[at]
                length = np.sqrt((change.astype(float) ** 2).sum())
                assert record["counterfactual"]["distance"] == pytest.approx(length, rel=1e-5)
        for found in model.concepts:
            assert len(found.concepts.importance) == len(found.attacked) == 4


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


@pytest.mark.long
def test_an_image_becomes_a_figure_for_a_paper(made, tmp_path):
    folder, name = made.path.parent, str(made.explained.ids[2])
    path = export_figure(folder, name, tmp_path / "new" / "a.png", methods=["grad_cam"])
    with Image.open(path) as picture:
        wide, high = picture.size
        assert picture.info["dpi"] == pytest.approx((300, 300), abs=1)
    alone = export_figure(folder, name, tmp_path / "b.png", models=["twin"], methods=["grad_cam"])
    with Image.open(alone) as picture:
        assert picture.size == (wide, high // 2)
    first, again = (export_figure(folder, name, tmp_path / f"{n}.pdf") for n in "cd")
    assert first.read_bytes() == again.read_bytes()
    text = export_figure(folder, name, tmp_path / "c.svg").read_text()
    for words in ("base", "gradients", "attacked"):
        assert f"<!-- {words}" in text
    for settings, message in [
        ({"out": tmp_path / "a.jpg"}, r"out must end in \.png, \.pdf, \.svg; received 'a.jpg'"),
        ({"image": "folder/<b>99.png"}, "image must be one of"),
        ({"methods": ["grad_camm"]}, "Did you mean 'grad_cam'"),
        ({"models": ["bas"]}, "Did you mean 'base'"),
        ({"folder": tmp_path}, "has no explanations.jsonl. Did you mean to run"),
    ]:
        given = {"folder": folder, "image": name, "out": tmp_path / "e.png"} | settings
        with pytest.raises(InputError, match=message):
            export_figure(**given)


def test_a_damaged_report_is_no_figure(made, tmp_path):
    folder = shutil.copytree(made.path.parent, tmp_path / "copy")
    given = folder, str(made.explained.ids[0]), tmp_path / "a.pdf"
    (folder / "maps" / "twin.npz").write_bytes(b"PK no archive")
    with pytest.raises(InputError, match=r"twin\.npz is damaged"):
        export_figure(*given)
    (folder / "maps" / "twin.npz").unlink()
    with pytest.raises(InputError, match=r"twin\.npz is missing"):
        export_figure(*given)
    (folder / "explanations.jsonl").write_text('{"id": ')
    with pytest.raises(InputError, match=r"explanations\.jsonl is damaged"):
        export_figure(*given)


def test_masks_say_where_maps_should_be(network, split, places, tmp_path):
    settings = {"methods": ["grad_cam"], "class_names": NAMES, "limit": 2, "quality_limit": 6}
    settings |= {"batch_size": 8, "attack": None}
    found = explain(network, split, tmp_path, masks=places, **settings)
    assert set(found.models[0].table.measures) >= {"pointing_game", "mass_in_mask"}
    # The network looks at the patch, which is a seventh of the image.
    assert found.models[0].table.estimates["grad_cam"]["mass_in_mask"].low > 36 / 256
    for masks, message in [
        (places[:3], r"masks must be bool \(20, 16, 16\)"),
        (places[:, :8], r"masks must be bool \(20, 16, 16\)"),
        (places.astype(int), "received int64"),
        (places & False, "masks must mark something"),
    ]:
        with pytest.raises(InputError, match=message):
            explain(network, split, tmp_path, masks=masks, **settings)
    with pytest.raises(InputError, match="quality_limit must be at least 1"):
        explain(network, split, tmp_path, masks=places, **(settings | {"quality_limit": 0}))


def test_masks_from_files(tmp_path):
    marked = np.zeros((8, 8), np.uint8)
    marked[2:4, 3:5] = 7  # numbers of kinds mark, too
    (tmp_path / "kind").mkdir()
    Image.fromarray(marked).save(tmp_path / "kind" / "a.png")
    Image.fromarray(marked.T.copy()).save(tmp_path / "b_mask.png")
    names = ["/data/test/kind/a.jpg", "kind/b.png", "none.png"]
    found = read_masks(tmp_path, names, (8, 8))
    np.testing.assert_array_equal(found, [marked > 0, marked.T > 0, marked < 0])
    larger = read_masks(tmp_path, names, (16, 16), resized=True)
    np.testing.assert_array_equal(larger[0], np.repeat(np.repeat(marked > 0, 2, 0), 2, 1))
    (tmp_path / "c.png").write_text("no picture")
    for given, message in [
        ((tmp_path, names, (16, 16)), r"masks must be 16 x 16 pixels.*a\.png is 8 x 8"),
        ((tmp_path / "nowhere", names, (8, 8)), "masks must be a folder of pictures"),
        ((tmp_path, ["d.png"], (8, 8)), r"masks must have the names of images, such as d\.png"),
        ((tmp_path, ["../../kind/a.png", "c.png"], (8, 8)), r"c\.png cannot be read"),
    ]:
        with pytest.raises(InputError, match=message):
            read_masks(*given)


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
    traced = tf.function(network, input_signature=[tf.TensorSpec((None, 16, 16, 1))])

    def function(images):
        return traced(images).numpy()

    settings = {"limit": 2, "quality_limit": 3, "class_names": NAMES, "batch_size": 8}
    found = explain(function, split, tmp_path, methods=["occlusion"], **settings)
    quality = found.models[0].quality["occlusion"]
    assert quality.randomization is None  # nobody can shuffle its weights
    assert "survives" not in quality.verdict
    assert "too little to compare" in found.path.read_text()
    with pytest.raises(InputError, match=r"received the function .*\['occlusion', 'rise', "):
        explain(function, split, tmp_path, **settings)


def test_a_hundred_photographs_stay_below_20_megabytes(tmp_path):
    """A quarter of them, that is, below a quarter; noise is the worst case.

    Larger pictures are shrunk until they are no larger than these.
    """
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((80, 80, 3)),
            layers.Conv2D(2, 3, strides=2),
            layers.GlobalMaxPooling2D(),
            layers.Dense(3),
        ]
    )
    images = np.random.default_rng(0).random((25, 80, 80, 3), dtype=np.float32)
    labels = np.zeros(25, np.int64)
    found = explain(model, (images, labels), tmp_path, attack=FGSM(), limit=25, quality_limit=0)
    assert found.path.stat().st_size < 5_000_000


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
        ({"measures": ["mass_in_mask"], "quality_limit": 2}, "masks must be given for the measure"),
        ({"measures": ["all"]}, "quality_limit must be at least 1 for measures; received 0"),
        ({"show_neighbors": True, "training": None}, "training must be a Split for show_neighbors"),
        ({"show_concepts": True, "limit": 2}, "show_concepts must have at least 3 images"),
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
