import numpy as np
import pytest

from robustcls import InputError
from robustcls.evaluation.corruptions.corruption import corrupt
from robustcls.evaluation.corruptions.evaluation import evaluate_corruptions
from robustcls.evaluation.corruptions.prepared import evaluate_corruption_folder
from robustcls.evaluation.corruptions.registry import PUBLISHED
from robustcls.evaluation.corruptions.report import CorruptionReport


def right(model, images, labels):
    return float((model.predict(images, verbose=0).argmax(-1) == labels).mean())


def test_accuracies_are_those_of_the_corrupted_images(honest, splits):
    report = evaluate_corruptions(
        honest, splits.test, limit=96, batch_size=64, trained_on=["poisson"]
    )
    assert set(report.accuracies) == set(PUBLISHED) - {"saturate"}
    assert "one channel" in report.left_out["saturate"]
    assert report.trained_on == ("shot_noise",)
    assert report.count == 96
    rows = np.array(list(report.accuracies.values()))
    assert rows.shape == (18, 5)
    assert report.mean_accuracy == pytest.approx(rows.mean())
    unseen = [row for name, row in report.accuracies.items() if name != "shot_noise"]
    assert report.mean_accuracy_unseen == pytest.approx(np.mean(unseen))
    assert report.mean_by_severity == pytest.approx(rows.mean(0))
    assert report.mean_by_severity[4] < report.mean_by_severity[0] <= report.clean + 0.02

    # Without randomness in it, a corruption is the function by that name.
    few = splits.test.take(np.arange(60))
    alone = evaluate_corruptions(honest, few, names=["contrast"], severities=[5])
    corrupted = corrupt(few.float_images(), "contrast", 5).numpy()
    assert alone.accuracies == {"contrast": (right(honest, corrupted, few.labels),)}
    assert alone.clean == right(honest, few.float_images(), few.labels)


def test_seeds_arrays_and_gray_repeats(honest, splits):
    few = splits.test.take(np.arange(100))
    settings = {"names": ["gaussian_noise"], "scale": "imagenet_c"}
    first = evaluate_corruptions(honest, few, **settings, seed=1)
    arrays = (few.float_images(), few.labels)
    assert first == evaluate_corruptions(honest, arrays, **settings, seed=1)
    assert first.accuracies != evaluate_corruptions(honest, few, **settings, seed=2).accuracies


def report_of(scale="cifar_c", **rows):
    return CorruptionReport(scale=scale, severities=(1, 5), accuracies=rows, count=10)


def test_corruption_errors_are_relative_to_the_reference():
    mine = report_of(fog=(0.9, 0.7), contrast=(0.8, 0.6))
    other = report_of(fog=(0.8, 0.6), contrast=(0.9, 0.5))
    values = mine.to_dict(other, reference_name="base")
    assert values["corruption_errors"] == pytest.approx({"fog": 0.2 / 0.3, "contrast": 1.0})
    assert values["mce"] == pytest.approx((0.2 / 0.3 + 1) / 2)
    assert values["reference"] == "base"
    assert mine.mean_corruption_error({"fog": 0.4, "contrast": 0.6}) == pytest.approx(0.5)
    assert mine.mean_corruption_error(mine) == 1
    perfect = report_of(fog=(1, 1), contrast=(1, 1))
    assert mine.mean_corruption_error(perfect) is None
    for reference, message in [
        (report_of("imagenet_c", fog=(1, 1)), "reference must be of scale cifar_c"),
        ({"fog": 0.5}, "contrast missing"),
    ]:
        with pytest.raises(InputError, match=message):
            mine.mean_corruption_error(reference)


@pytest.fixture
def folder(splits, tmp_path):
    """Forty images in the format of CIFAR-10-C: fog is the images, frost nothing at all."""
    images, labels = splits.test.images[:40], splits.test.labels[:40]
    np.save(tmp_path / "labels.npy", np.tile(labels, 5).astype(np.int32))
    fade = np.array([1, 1, 1, 1, 0], np.uint8).repeat(40)[:, None, None, None]
    np.save(tmp_path / "fog.npy", np.tile(images, (5, 1, 1, 1)))
    np.save(tmp_path / "frost.npy", np.tile(images, (5, 1, 1, 1)) * fade)
    return tmp_path


def test_prepared_files(honest, splits, folder):
    few = splits.test.take(np.arange(40))
    clean = right(honest, few.float_images(), few.labels)
    black = right(honest, 0 * few.float_images(), few.labels)
    report = evaluate_corruption_folder(honest, folder, trained_on=["fog"], batch_size=16)
    assert report.accuracies == {"fog": (clean,) * 5, "frost": (clean,) * 4 + (black,)}
    assert report.trained_on == ("fog",)
    assert report.scale == folder.name
    assert report.clean is None
    some = evaluate_corruption_folder(honest, folder, names=["frost"], severities=[5], limit=10)
    assert (some.count, some.severities) == (10, (5,))
    np.save(folder / "labels.npy", few.labels)
    assert evaluate_corruption_folder(honest, folder).accuracies == report.accuracies


def test_bad_folders(honest, folder):
    def fails(message, **settings):
        with pytest.raises(InputError, match=message):
            evaluate_corruption_folder(honest, folder, **settings)

    fails("names must be one of fog, frost", names=["snow"])
    fails("severities must be one or more different integers", severities=[1, 1])
    np.save(folder / "frost.npy", np.zeros((10, 14, 14, 1), np.uint8))
    fails("folder must hold images of one shape")
    np.save(folder / "frost.npy", np.zeros((200, 14, 14, 1), np.float32))
    fails(r"frost.npy must be uint8 \[5 N, H, W, C\]")
    (folder / "frost.npy").write_bytes(b"no array")
    fails("frost.npy must be a NumPy array file")
    (folder / "frost.npy").unlink()
    np.save(folder / "labels.npy", np.arange(200) % 7)
    fails("labels.npy must repeat the same labels for each")
    np.save(folder / "labels.npy", np.arange(7))
    fails("labels.npy must be 40 class ids")
    np.save(folder / "labels.npy", np.full(40, 10))
    fails(r"labels.npy must be in \[0, 10\)")
    np.save(folder / "fog.npy", np.zeros((200, 9, 9, 1), np.uint8))
    fails("images must be of the model's shape")
    (folder / "labels.npy").unlink()
    fails("must hold labels.npy")


def test_bad_input(honest, splits):
    few = splits.test.take(np.arange(10))
    cases = [
        ({"scale": "cifar"}, "Did you mean 'cifar_c'"),
        ({"names": ["sand"]}, "names must be one of"),
        ({"names": ["saturate"]}, "names must hold a corruption that these images can have"),
        ({"severities": [6]}, "severities must be"),
        ({"trained_on": ["rain"]}, "trained_on must be one of"),
        ({"batch_size": 0}, "batch_size must be an integer >= 1"),
    ]
    for settings, message in cases:
        with pytest.raises(InputError, match=message):
            evaluate_corruptions(honest, few, **settings)
