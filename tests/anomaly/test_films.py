"""Films in and out, and through a detector, frame by frame."""

import csv
import json
import sys
import tracemalloc
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from anomaly.commands import video_command
from anomaly.experiments import films
from anomaly.localization import Box
from anomaly.video import Film, write_film
from robustcls import InputError

av = pytest.importorskip("av")
COUNT = 12


def frame(number, shape=(48, 64)):
    """Even gray, and from frame 8 on a bright square."""
    pixels = np.full((*shape, 3), 90, np.uint8)
    if number >= 8:
        pixels[10:30, 20:40] = 250
    return pixels


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    path = tmp_path_factory.mktemp("film") / "walk.mp4"
    with write_film(path, Fraction(10)) as add:
        for number in range(COUNT):
            add(frame(number))
    return path


class Detector:
    """Scores the brightest pixel, boxes what is bright."""

    def __init__(self, channels=1, makes_maps=True):
        self.image_shape, self.makes_maps = (24, 32, channels), makes_maps
        self.threshold, self.method = 0.5, "brightest"
        self.batches = []

    def score(self, images, batch_size):
        assert images.dtype == np.float32
        assert images.shape[1:] == self.image_shape
        self.batches.append(len(images))
        return images.max(axis=(1, 2, 3))

    def boxes(self, images, batch_size):
        return [[Box(10, 5, 20, 15, 1.0)] if image.max() > 0.5 else [] for image in images]


@pytest.fixture
def detector(monkeypatch):
    found = Detector()
    monkeypatch.setattr(films, "load_detector", lambda run: found)
    return found


def test_a_film_comes_back(film):
    found = Film(film)
    assert (found.rate, found.size, found.count) == (10, (48, 64), COUNT)
    frames = list(found.frames(3))
    assert len(frames) == COUNT
    assert found.broken is None
    for number, pixels in enumerate(frames):
        assert np.abs(pixels.astype(int) - frame(number)).mean() < 6
    (gray, *_) = Film(film).frames(1)
    assert gray.shape == (48, 64, 1)


def test_odd_sides_are_filled_up(tmp_path):
    with write_film(tmp_path / "odd.mp4", Fraction(5)) as add:
        add(frame(0, (31, 33)))
    assert Film(tmp_path / "odd.mp4").size == (32, 34)


def test_a_film_through_a_detector(film, detector, tmp_path):
    found = films.annotate_film("run", film, tmp_path / "out", batch_size=5)
    assert detector.batches == [5, 5, 2]
    assert (found["frames"], found["anomalies"], found["ended_early"]) == (12, 4, None)
    assert json.loads((tmp_path / "out" / "film.json").read_text()) == found
    rows = list(csv.DictReader((tmp_path / "out" / "frames.csv").read_text().splitlines()))
    assert [row["verdict"] for row in rows] == ["normal"] * 8 + ["anomaly"] * 4
    assert [row["boxes"] for row in rows] == ["0"] * 8 + ["1"] * 4
    assert float(rows[9]["seconds"]) == 0.9
    written = Film(tmp_path / "out" / "walk.mp4")
    assert written.rate == 10
    pictures = list(written.frames(3))
    assert len(pictures) == COUNT
    # The box is drawn in red where the square is, at three times the size.
    scale = pictures[9].shape[1] // 64
    edge = pictures[9][10 * scale, 24 * scale : 36 * scale].astype(int)
    assert (edge[:, 0] - edge[:, 1]).mean() > 60
    assert np.ptp(pictures[2][10 * scale, 24 * scale : 36 * scale].astype(int)) < 30


def test_without_maps_there_are_scores_alone(film, detector, tmp_path):
    detector.makes_maps = False
    films.annotate_film("run", film, tmp_path, batch_size=32)
    rows = list(csv.DictReader((tmp_path / "frames.csv").read_text().splitlines()))
    assert {row["boxes"] for row in rows} == {"0"}


def test_memory_stays_flat(detector, tmp_path):
    """Ten times the frames take no more memory at their peak."""
    peaks = []
    for count in (20, 200):
        with write_film(tmp_path / f"{count}.mp4", Fraction(10)) as add:
            for number in range(count):
                add(frame(number % COUNT))
        tracemalloc.start()
        films.annotate_film("run", tmp_path / f"{count}.mp4", tmp_path / "out", batch_size=4)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0] + 200_000


def test_a_film_that_ends_early_keeps_what_there_was(film, detector, tmp_path, capsys):
    """In a container without an index at its end, the frames before the damage are there."""
    whole = tmp_path / "whole.avi"
    with av.open(str(whole), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        draws = np.random.default_rng(0)
        for _ in range(40):
            noise = draws.integers(0, 256, (48, 64, 3), dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(noise, format="rgb24")))
        container.mux(stream.encode())
    cut = tmp_path / "cut.avi"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    video_command("run", str(cut), str(tmp_path / "out"))
    found = json.loads((tmp_path / "out" / "film.json").read_text())
    assert 5 < found["frames"] < 40
    assert "40" in found["ended_early"] or "breaks off" in found["ended_early"]
    assert "ended early" in capsys.readouterr().err
    assert len(list(Film(tmp_path / "out" / "cut.mp4").frames(3))) == found["frames"]


def test_frames_as_pictures(film, tmp_path):
    out = tmp_path / "frames"
    assert films.extract_frames(film, out, every=3, first=10, channels=1) == 4
    assert sorted(path.name for path in out.iterdir()) == [
        f"{number:06d}.png" for number in (0, 3, 6, 9)
    ]
    with Image.open(out / "000009.png") as picture:
        assert picture.mode == "L"
    with pytest.raises(InputError, match="new or an empty folder"):
        films.extract_frames(film, out)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: None, "does not exist"),
        (lambda path: path.write_bytes(b"no film"), "must be one that can be read"),
        (lambda path: path.write_bytes(b""), "must be one that can be read"),
    ],
)
def test_what_is_no_film(make, words, detector, tmp_path):
    path = tmp_path / "film.mp4"
    make(path)
    with pytest.raises(InputError, match=words) as error:
        films.annotate_film("run", path, tmp_path / "out")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


def test_sound_alone_and_other_names(tmp_path):
    sound = tmp_path / "sound.wav"
    with av.open(str(sound), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), layout="mono")
        silence.sample_rate = 8000
        container.mux(stream.encode(silence))
    with pytest.raises(InputError, match="must hold pictures"):
        Film(sound)
    with pytest.raises(InputError, match=r"named \*\.mp4"), write_film(tmp_path / "a.gif", 5):
        pass


def test_without_pyav(film, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(InputError, match=r"pip install '\.\[video\]'"):
        Film(film)
