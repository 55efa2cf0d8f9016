import numpy as np
import pytest


def draw_images(count, seed, shape=(28, 28, 1), square=False):
    """Smooth waves of random phase, float32 in [0, 1]; a defect is a bright square."""
    generator = np.random.default_rng(seed)
    rows, columns = np.mgrid[: shape[0], : shape[1]] / 6
    phases = generator.uniform(0, 2 * np.pi, (count, 1, 1))
    images = 0.4 + 0.2 * np.sin(rows + phases) * np.cos(columns + phases / 2)
    images = np.repeat(images[..., None], shape[-1], -1)
    if square:
        images[:, 8:14, 12:18] = 1
    return images.astype(np.float32)


@pytest.fixture(scope="module")
def few_blocks():
    """MobileNetV2 with one block in each stage behind those that tests take features from."""
    from robustcls.models import mobilenet_v2

    last = [(channels, 1, stride) for channels, _, stride in mobilenet_v2.STAGES[3:]]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mobilenet_v2, "STAGES", (*mobilenet_v2.STAGES[:3], *last))
        yield


@pytest.fixture(scope="session")
def normal_images():
    return draw_images(256, 0)


@pytest.fixture(scope="session")
def other_normal_images():
    return draw_images(300, 1)


@pytest.fixture(scope="session")
def defective_images():
    return draw_images(40, 2, square=True)


@pytest.fixture(scope="session")
def anomalies():
    """Known ones, for the methods that learn from some."""
    return draw_images(20, 3, square=True)
