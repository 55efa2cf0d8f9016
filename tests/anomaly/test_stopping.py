"""A detector whose training diverges stops with the batch; one that has is not exported."""

import numpy as np
import pytest

from anomaly import AutoEncoder
from anomaly.detection.registry import METHODS, detector_class
from robustcls import InputError

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


def test_a_detector_with_weights_that_are_not_finite_is_not_exported(normal_images, tmp_path):
    detector = AutoEncoder(image_shape=(28, 28, 1), epochs=1).fit(normal_images, verbose=0)
    layer = detector.networks["autoencoder"].layers[1]
    layer.set_weights([np.full_like(weight, np.nan) for weight in layer.get_weights()])
    with pytest.raises(InputError, match="detector must have finite weights"):
        detector.export(tmp_path / "export")
    assert not (tmp_path / "export").exists()
