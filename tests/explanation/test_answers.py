import base64
import io

import numpy as np
from PIL import Image

from robustcls.explanation.methods.maps import Maps
from robustcls.explanation.reports.answers import AnswerViews, amplification
from robustcls.explanation.reports.disagreement import disagreements
from robustcls.explanation.reports.given.images import ExplainedImages
from robustcls.explanation.reports.results import ModelResults
from robustcls.reports.pictures import POSITIVE


def corner(panel):
    """The colour of a panel's first pixel."""
    data = base64.b64decode(panel.picture.partition(",")[2])
    with Image.open(io.BytesIO(data)) as picture:
        return "#" + bytes(picture.getpixel((0, 0))).hex()


def test_an_image_and_its_twin_share_one_scale():
    images = np.full((1, 4, 4, 1), 0.5, np.float32)
    positive = np.zeros((1, 4, 4), np.float32)
    positive[0, 0, 0] = 2.0
    negative = np.zeros_like(positive)
    twins = images + np.float32(0.1)
    model = ModelResults(
        name="base",
        probabilities=np.array([[0.9, 0.1]]),
        maps={"gradients": Maps(positive, negative)},
        adversarial=twins,
        adversarial_probabilities=np.array([[0.3, 0.7]]),
        adversarial_maps={"gradients": Maps(positive / 2, negative)},
        quality={},
        layer=None,
    )
    explained = ExplainedImages(images, np.array([0]), np.array(["a"]), ("cat", "dog"))
    factor = amplification(explained, [model])
    assert factor == 5
    orders = {"models": np.array([0.25]), "methods": np.array([np.nan])}
    view = AnswerViews(explained, model, factor, 40_000, orders).view(0)
    assert view.ranks == {"models": 0.25}
    assert view.answer == "cat"
    assert view.heading == "cat, 90.0 % → dog, 70.0 %"
    assert view.rank == 0.6
    assert set(view.tags) == {"flipped", "correct"}
    photographs, maps = view.rows
    assert [corner(panel) for panel in photographs.panels] == ["#808080", "#999999", "#ffffff"]
    colours = [corner(panel) for panel in maps.panels]
    assert colours == [POSITIVE[2], "#ffffff", POSITIVE[1], "#ffffff"]
    assert [bar.high for bar in maps.bars] == ["2", "2"]
    assert view.tables[0].rows == [["cat", "90.0 (1)", "30.0 (2)"], ["dog", "10.0 (2)", "70.0 (1)"]]


def test_what_images_are_sorted_by():
    ramp = np.arange(16, dtype=np.float32).reshape(1, 4, 4)

    def model(name, probability, maps, attacked=None):
        return ModelResults(
            name=name,
            probabilities=np.array([[probability, 1 - probability]]),
            maps=maps,
            adversarial=None,
            adversarial_probabilities=None,
            adversarial_maps=attacked or {},
            quality={},
            layer=None,
        )

    up, down, empty = Maps(ramp), Maps(15 - ramp), Maps(0 * ramp)
    one = model("one", 0.9, {"a": up, "b": down}, {"a": up, "b": up})
    other = model("other", 0.4, {"a": down, "c": empty})
    first, second = disagreements([one, other])
    assert first["answers"] == second["answers"] == 0.5
    assert first["models"] == second["models"] == 2  # by "a", which both have
    assert first["methods"] == 2
    assert first["attacked"] == 1  # 0 for "a", 2 for "b"
    assert "attacked" not in second
    assert set(disagreements([model("alone", 0.9, {"a": up})])[0]) == set()
    assert np.isnan(disagreements([model("x", 0.9, {"a": empty, "b": empty})])[0]["methods"][0])
