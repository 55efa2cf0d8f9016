"""Figures of films with known answers."""

import json

import numpy as np
import pytest
from PIL import Image

from anomaly import cli
from anomaly.video import frame_figures, normalized_scores
from robustcls import InputError


def test_each_film_goes_from_0_to_1():
    scores = [5.0, 1.0, 3.0, 100.0, 200.0, 7.0]
    films = ["a", "a", "a", "b", "b", "c"]
    np.testing.assert_allclose(normalized_scores(scores, films), [1, 0, 0.5, 0, 1, 0])
    smooth = normalized_scores([0.0] * 10 + [1.0] + [0.0] * 10, ["a"] * 21, smoothing=2)
    assert smooth.argmax() == 10
    assert 0.5 < smooth[9] < 1
    # Films do not mix.
    both = normalized_scores([0.0] * 21 + [1.0] * 21, ["a"] * 21 + ["b"] * 21, smoothing=2)
    assert (both == 0).all()


def test_figures():
    """Pooled, the brighter film hides the other's anomaly; film by film both are found."""
    scores = [1.0, 1.1, 2.0, 10.0, 10.1, 11.0]
    labels = [0, 0, 1, 0, 0, 1]
    found = frame_figures(scores, labels, ["a"] * 3 + ["b"] * 3)
    assert found["normalized_auroc"] == 1
    assert found["mean_film_auroc"] == 1
    assert "mean_film_auroc" not in frame_figures([1, 2], [0, 1], ["a", "b"])
    for changes, words in (
        ({"films": ["a"]}, "films must be 6 names"),
        ({"scores": [np.nan] * 6}, "finite"),
        ({"labels": [0, 1]}, "labels must be 6"),
    ):
        arguments = {"scores": scores, "labels": labels, "films": ["a"] * 6} | changes
        with pytest.raises(InputError, match=words):
            frame_figures(**arguments)


def test_ucsd_from_its_folder_to_a_table(tmp_path, capsys):
    """A made set whose anomalous frames are known: the row has the AUROC that it must have."""
    draws = np.random.default_rng(0)
    root = tmp_path / "UCSDped2"
    for part, films, count in (("Train", 4, 25), ("Test", 2, 12)):
        for film in range(1, films + 1):
            folder = root / part / f"{part}{film:03}"
            folder.mkdir(parents=True)
            marks = root / part / f"{part}{film:03}_gt"
            if part == "Test":
                marks.mkdir()
            for number in range(1, count + 1):
                pixels = draws.integers(80, 120, (16, 24), dtype=np.uint8)
                mask = np.zeros_like(pixels)
                if part == "Test" and number > 8:
                    mask[3:9, 5:12] = 255
                    pixels[mask > 0] = 255
                Image.fromarray(pixels).save(folder / f"{number:03}.tif")
                if part == "Test":
                    Image.fromarray(mask).save(marks / f"{number:03}.bmp")
    flags = ["benchmark", "--methods", "one_class_svm", "--seeds", "1", "--oracle", "false"]
    cli.main([*flags, "--data", f"ucsd:{root}", "--out", str(tmp_path / "out")])
    (result,) = json.loads((tmp_path / "out" / "results.json").read_text())["results"]
    assert result["auroc"] == result["normalized_auroc"] == result["mean_film_auroc"] == 1
    assert result["detection_rate"]["count"] == 8
    assert "film by film" in capsys.readouterr().out
