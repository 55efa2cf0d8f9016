"""A detector whose training diverges stops with the batch; one that has is not exported."""

import numpy as np
import pytest

from anomaly import AutoEncoder
from anomaly.detection.registry import METHODS, detector_class
from robustcls import InputError
from robustcls.data.splits import FloatImages

TRAINED = [name for name in METHODS if detector_class(name).counts_epochs]


@pytest.mark.parametrize(
    "method",
    [
        pytest.param(name, marks=() if name == "ebgan" else pytest.mark.exhaustive)
        for name in TRAINED
    ],
)
def test_every_detector_stops_at_the_first_loss_that_is_none(method, normal_images, tmp_path):
    detector = detector_class(method)(
        image_shape=(28, 28, 1), batch_size=16, epochs=9, learning_rate=1e30
    )
    if hasattr(detector, "width"):
        detector.width = 0.0625
    images = normal_images[:120]
    with pytest.raises(InputError, match="must stay finite; "):
        detector.fit(images, folder=tmp_path / "fit", verbose=0)
    assert not list(tmp_path.rglob("*.npz"))
    with pytest.raises(InputError, match="must be fitted before score"):
        detector.score(images)


def test_a_detector_with_weights_that_are_not_finite_is_not_exported(tmp_path):
    detector = AutoEncoder(image_shape=(28, 28, 1))
    detector.networks = detector.build()
    layer = detector.networks["autoencoder"].layers[1]
    layer.set_weights([np.full_like(weight, np.nan) for weight in layer.get_weights()])
    with pytest.raises(InputError, match="detector must have finite weights"):
        detector.export(tmp_path / "export")
    assert not (tmp_path / "export").exists()


@pytest.mark.long
def test_pixels_are_never_made_an_array_of_floats(tmp_path, monkeypatch):
    """And are learnt from as floats are, bit by bit."""
    pixels = np.random.default_rng(0).integers(0, 256, (600, 16, 16, 1), np.uint8)
    asked = []
    read = FloatImages.__getitem__
    monkeypatch.setattr(
        FloatImages,
        "__getitem__",
        lambda self, key: asked.append(len(np.atleast_1d(found := read(self, key)))) or found,
    )
    settings = {"image_shape": (16, 16, 1), "batch_size": 64, "epochs": 1, "code_neighbors": 1}
    detectors = []
    for kind in (FloatImages, lambda part: read(FloatImages(part), slice(None))):
        parts = kind(pixels[:540]), kind(pixels[540:])
        detectors.append(AutoEncoder(**settings).fit(parts[0], validation=parts[1], verbose=0))
    assert 64 <= max(asked) <= 256
    first, second = (detector.networks["autoencoder"].get_weights() for detector in detectors)
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)
    assert detectors[0].threshold == detectors[1].threshold
