import keras
import numpy as np
import pytest
import tensorflow as tf
from sklearn.metrics import roc_auc_score

from anomaly import PatchMemory
from anomaly.patch_memory import greedy_coreset
from robustcls import InputError
from robustcls.models.building import build_classifier

pytestmark = pytest.mark.usefixtures("few_blocks")

SHAPE = (48, 64, 3)
LAYERS = ("block_2_add", "block_5_add")


def settings(**changed):
    return {
        "image_shape": SHAPE,
        "weights": "random",
        "layers": LAYERS,
        "coreset": 0.1,
        "neighbors": 3,
        "false_alarm_rate": 0.2,
        **changed,
    }


def waves(count, seed, defect=False):
    """Waves of any phase; a defect is a patch of another texture."""
    generator = np.random.default_rng(seed)
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]] / 4
    images, masks = [], np.zeros((count, *SHAPE[:2]), bool)
    for place in range(count):
        phase = generator.uniform(0, 2 * np.pi, 2)
        image = 0.5 + 0.2 * np.sin(rows + phase[0]) * np.cos(columns + phase[1])
        image = image + generator.normal(0, 0.02, image.shape)
        if defect:
            top, left = generator.integers(4, 28, 2)
            box = np.s_[top : top + 14, left : left + 14]
            image[box] = generator.choice([0.1, 0.9], (14, 14))
            masks[(place, *box)] = True
        images.append(image)
    return np.clip(np.stack(images), 0, 1)[..., None].repeat(3, -1).astype(np.float32), masks


@pytest.fixture(scope="module")
def detector():
    return PatchMemory(**settings()).fit(waves(24, 0)[0], validation=waves(8, 1)[0], verbose=0)


def slow_patches(images):
    """Patches as the paper has them, by loops."""
    classifier = build_classifier(
        "mobilenet_v2", input_shape=SHAPE, num_classes=2, output_stride=32, seed=0
    )
    maps = keras.Model(classifier.input, [classifier.get_layer(name).output for name in LAYERS])
    parts = []
    for features in maps(images):
        features = np.asarray(features)
        padded = np.pad(features, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=np.nan)
        means = np.empty_like(features)
        for row in range(features.shape[1]):
            for column in range(features.shape[2]):
                means[:, row, column] = np.nanmean(
                    padded[:, row : row + 3, column : column + 3], axis=(1, 2)
                )
        parts.append(tf.image.resize(means, (6, 8)).numpy())
    return np.concatenate(parts, -1).astype(np.float64)


def slow_scores(patches, memory, neighbors):
    """Equation 7, patch by patch."""
    scores, maps = [], []
    for image in patches:
        distances = np.linalg.norm(image[:, :, None] - memory, axis=-1)
        maps.append(distances.min(-1))
        worst = np.unravel_index(maps[-1].argmax(), maps[-1].shape)
        nearest = memory[distances[worst].argmin()]
        around = np.argsort(np.linalg.norm(memory - nearest, axis=-1))[:neighbors]
        weight = 1 - np.exp(distances[worst].min()) / np.exp(distances[worst][around]).sum()
        scores.append(weight * distances[worst].min())
    return np.array(scores), np.array(maps)


def test_scores_and_maps_are_those_of_a_slow_plain_patchcore(detector):
    normal, test = waves(24, 0)[0], waves(6, 2, defect=True)[0]
    patches = slow_patches(normal).reshape(-1, 56)
    chosen = greedy_coreset(np.float32(patches - patches.mean(0)), round(0.1 * len(patches)))
    scores, maps = slow_scores(slow_patches(test), patches[chosen], 3)
    np.testing.assert_allclose(detector.score(test), scores, rtol=1e-3)
    np.testing.assert_allclose(
        detector.anomaly_map(test),
        tf.image.resize(maps[..., None], SHAPE[:2])[..., 0],
        rtol=1e-3,
        atol=1e-4,
    )


def test_the_coreset_is_greedy():
    patches = np.random.default_rng(0).normal(size=(60, 5)).astype(np.float32)
    chosen = greedy_coreset(patches, 12, seed=3)
    assert len(set(chosen.tolist())) == 12
    distances = np.linalg.norm(patches[:, None] - patches, axis=-1)
    for count in range(1, 12):
        nearest = distances[:, chosen[:count]].min(1)
        assert nearest[chosen[count]] == pytest.approx(nearest.max())


def test_defects_are_found_and_where_they_are(detector):
    normal, _ = waves(20, 5)
    anomalous, masks = waves(20, 6, defect=True)
    scores = detector.score(np.concatenate([normal, anomalous]))
    assert roc_auc_score([0] * 20 + [1] * 20, scores) > 0.95
    maps = detector.anomaly_map(anomalous)
    assert roc_auc_score(masks.ravel(), maps.ravel()) > 0.9


def test_whitened_features_have_one_variance():
    detector = PatchMemory(**settings(whiten=True, coreset=1.0, max_patches=2000))
    detector.fit(waves(24, 0)[0], validation=waves(8, 1)[0], verbose=0)
    memory = detector.networks["memory"].get_layer("memory")
    kept = memory.patches.numpy()[: int(memory.used.numpy())]
    values = np.linalg.eigvalsh(np.cov(kept.T))
    assert values.max() < 1.1
    assert np.median(values) > 0.2


@pytest.mark.long
def test_two_fits_remember_the_same(detector):
    again = PatchMemory(**settings()).fit(waves(24, 0)[0], validation=waves(8, 1)[0], verbose=0)
    test = waves(6, 2, defect=True)[0]
    np.testing.assert_array_equal(again.score(test), detector.score(test))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"layers": ("block_99",)}, "layers must be .*received 'block_99'"),
        ({"layers": ()}, "layers must name at least one"),
        ({"coreset": 0}, r"coreset must be"),
        ({"neighbors": 0}, "neighbors must be"),
        ({"max_patches": 2}, "max_patches must be"),
        ({"epochs": 2}, "epochs must be"),
        ({"weights": "imagenot"}, "weights must be"),
    ],
)
def test_bad_settings_are_one_line(changed, message):
    with pytest.raises(InputError, match=message):
        PatchMemory(**settings(**changed)).fit(waves(24, 0)[0], verbose=0)


@pytest.mark.long
def test_efficientnet_lite0_in_the_place_of_mobilenet():
    own = settings(backbone="efficientnet_lite0", layers=None)
    detector = PatchMemory(**own)
    assert detector.layers[0] == "lite_block_2_add"
    detector.fit(waves(24, 0)[0], validation=waves(8, 1)[0], verbose=0)
    assert detector.networks["features"].output_shape[1:] == (6, 8, 24 + 80 + 192)
    normal, broken = waves(10, 2)[0], waves(10, 3, defect=True)[0]
    scores = detector.score(np.concatenate([normal, broken]))
    assert roc_auc_score([0] * 10 + [1] * 10, scores) > 0.9
    again = PatchMemory.from_config(detector.get_config())
    assert again.layers == detector.layers
    with pytest.raises(InputError, match="Did you mean 'mobilenet_v2'"):
        PatchMemory(**settings(backbone="mobilenet_v3"))
