"""Folders of one normal class, from the command line to figures."""

import json

import numpy as np
import pytest
from PIL import Image

from anomaly.cli import main
from robustcls.runs import Run

FLAGS = ("--method", "autoencoder", "--epochs", "12", "--seed", "3")
FLAGS += ("--settings.learning_rate", "0.005", "--settings.batch_size", "16")


def fill(folder, count, seed, masks=None):
    """Waves; with `masks` each has a bright square, and a mask of it."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(seed)
    rows, columns = np.mgrid[:28, :28] / 6
    for index in range(count):
        phase = generator.uniform(0, 2 * np.pi)
        pixels = 0.4 + 0.2 * np.sin(rows + phase) * np.cos(columns + phase / 2)
        if masks is not None:
            top, left = generator.integers(2, 20, 2)
            pixels[top : top + 6, left : left + 6] = 1
            mask = np.zeros((28, 28), np.uint8)
            mask[top : top + 6, left : left + 6] = 255
            masks.mkdir(parents=True, exist_ok=True)
            Image.fromarray(mask).save(masks / f"{index:03}_mask.png")
        Image.fromarray((255 * pixels).astype(np.uint8)).save(folder / f"{index:03}.png")


@pytest.fixture
def parts(tmp_path):
    """MVTec AD's layout."""
    root = tmp_path / "parts"
    fill(root / "train" / "good", 80, 0)
    fill(root / "test" / "good", 20, 1)
    fill(root / "test" / "square", 20, 2, root / "ground_truth" / "square")
    return root


@pytest.mark.long
def test_a_set_of_defects_is_measured_with_its_masks(parts, tmp_path, capsys):
    out = tmp_path / "run"
    main(["train", "--data", str(parts), "--out", str(out), *FLAGS])
    run = Run(out)
    assert run.config["data"]["normal_class"] == "good"
    assert run.config["data"]["class_names"] == ["good", "square"]
    main(["evaluate", str(out)])
    printed = capsys.readouterr().out
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["auroc"] > 0.9
    assert metrics["pixel_auroc"] > 0.9
    assert metrics["aupro"] > 0.7
    assert metrics["images_with_masks"] == 20
    assert 0 < metrics["mask_iou"] < metrics["mask_f1"] <= 1
    assert 0 < metrics["box_iou"] <= 1
    for line in ("AUROC of pixels", "AUPRO", "IoU of pixels", "IoU of boxes"):
        assert line in printed
        assert line in (out / "report" / "anomaly.html").read_text()


@pytest.mark.slow
def test_normal_images_alone_give_a_detector_and_its_false_alarms(tmp_path, capsys):
    fill(tmp_path / "parts", 100, 0)
    out = tmp_path / "run"
    flags = ["--data", str(tmp_path / "parts"), "--out", str(out), "--method", "one_class_svm"]
    main(["train", *flags])
    main(["evaluate", str(out)])
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["false_alarm_rate"]["count"] == 20
    assert "auroc" not in metrics
    assert "detection_rate" not in metrics
    assert "not measured" in capsys.readouterr().out
    main(["export", str(out)])
    assert "| false alarms |" in (out / "export" / "1" / "MODEL_CARD.md").read_text()


def test_several_classes_need_a_name(tmp_path, capsys):
    for name in ("cat", "dog"):
        fill(tmp_path / "pets" / name, 40, 0)
    with pytest.raises(SystemExit) as left:
        main(["train", "--data", str(tmp_path / "pets"), "--out", str(tmp_path / "run"), *FLAGS])
    assert left.value.code == 2
    error = capsys.readouterr().err
    assert "normal_class must be one of cat, dog; received none of them." in error
    assert not (tmp_path / "run").exists()
