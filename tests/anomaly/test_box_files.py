"""Boxes in the pixels of a user's files, whatever the detector's own size."""

import csv
import json
import tracemalloc
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from anomaly.experiments import boxes as box_files
from anomaly.experiments.boxes import box_images, scaled
from anomaly.localization.boxes import RED, Box
from robustcls import InputError


@pytest.fixture
def detector(monkeypatch):
    """Sees 16 x 16 pixels; the brightest quarter of bright images is boxed."""
    found = SimpleNamespace(
        makes_maps=True,
        image_shape=(16, 16, 1),
        threshold=0.5,
        score=lambda images, batch_size: images.mean((1, 2, 3)),
        boxes=lambda images, batch_size: [
            [Box(4, 4, 8, 8, 0.9)] if image.mean() > 0.5 else [] for image in images
        ],
    )
    monkeypatch.setattr(box_files, "load_detector", lambda run: found)


def test_boxes_are_in_the_pixels_of_the_files(detector, tmp_path):
    files = tmp_path / "files"
    files.mkdir()
    Image.new("L", (600, 320), 200).save(files / "größe.png")
    turned = Image.new("RGB", (320, 600), (200, 200, 200))
    exif = turned.getexif()
    exif[0x0112] = 6  # seen as 600 wide
    turned.save(files / "turned.jpg", exif=exif)
    Image.new("L", (20, 20), 9).save(files / "small.png")
    box_images("run", [str(files)], tmp_path / "out", batch_size=2)
    entries = json.loads((tmp_path / "out" / "boxes.json").read_text())
    large, small, other = entries
    box = {"left": 150, "top": 80, "right": 300, "bottom": 160, "score": 0.9}
    assert (large["width"], large["height"], large["boxes"]) == (600, 320, [box])
    assert large["score"] == pytest.approx(200 / 255)
    assert (large["verdict"], large["threshold"]) == ("anomaly", 0.5)
    assert (other["width"], other["height"], other["boxes"]) == (600, 320, [box])
    assert (small["verdict"], small["boxes"]) == ("normal", [])
    with Image.open(tmp_path / "out" / large["picture"]) as picture:
        pixels = np.asarray(picture)
    assert pixels.shape[1] == 600
    assert 320 < pixels.shape[0] < 380  # a strip of words below
    red = (pixels[:320] == RED).all(-1)
    rows, columns = np.flatnonzero(red.any(1)), np.flatnonzero(red.any(0))
    assert (rows[0], rows[-1], columns[0], columns[-1]) == (80, 159, 150, 299)
    with Image.open(tmp_path / "out" / small["picture"]) as picture:
        assert picture.width == 20 * 11
    with (tmp_path / "out" / "boxes.csv").open(encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    assert [row["left"] for row in table] == ["150", "", "150"]
    assert table[0]["image"].endswith("größe.png")
    assert [row["verdict"] for row in table] == ["anomaly", "normal", "anomaly"]


def test_a_box_keeps_every_pixel_that_it_touches():
    assert scaled(Box(0, 1, 3, 16, 1.0), (16, 16), (10, 100)) == Box(0, 0, 19, 10, 1.0)
    assert scaled(Box(1, 1, 2, 2, 1.0), (16, 16), (16, 16)) == Box(1, 1, 2, 2, 1.0)


def test_one_large_file_is_in_memory_at_a_time(detector, tmp_path):
    peaks = []
    for count in (2, 9):
        files = [str(tmp_path / f"{number}.png") for number in range(count)]
        for file in files:
            Image.new("L", (900, 900), 200).save(file)
        tracemalloc.start()
        box_images("run", files, tmp_path / f"out-{count}", batch_size=9)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 900 * 900  # not even one more


def test_unreadable_files_are_all_named_or_left_out(detector, tmp_path, capsys):
    files = tmp_path / "files"
    files.mkdir()
    Image.new("L", (20, 20), 200).save(files / "good.png")
    Image.new("L", (90, 90), 200).save(files / "cut.png")
    (files / "cut.png").write_bytes((files / "cut.png").read_bytes()[:-30])
    (files / "none.jpg").write_text("no image")
    out = tmp_path / "out"
    with pytest.raises(InputError, match=r"2 files cannot be read: .*cut\.png.*; .*none\.jpg"):
        box_images("run", [str(files)], out)
    assert not out.exists()
    box_images("run", [str(files)], out, skip_bad_images=True)
    entry, *bad = json.loads((out / "boxes.json").read_text())
    assert entry["image"].endswith("good.png")
    assert {(Path(skipped["image"]).name, skipped["verdict"]) for skipped in bad} == {
        ("cut.png", "unreadable"),
        ("none.jpg", "unreadable"),
    }
    assert all(skipped["reason"] for skipped in bad)
    with (out / "boxes.csv").open(encoding="utf-8") as file:
        assert [row["verdict"] for row in csv.DictReader(file)].count("unreadable") == 2
    assert "Left out, as unreadable: " in capsys.readouterr().err
    with pytest.raises(InputError, match="at least one readable image file"):
        box_images("run", [str(files / "none.jpg")], out, skip_bad_images=True)
