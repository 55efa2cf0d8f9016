"""Damaged files of our own: each is one line that names the file, or the one before is taken."""

import json
import re
import shutil

import keras
import numpy as np
import pytest

from anomaly import OneClassDetector
from anomaly.experiments.results import is_whole
from anomaly.one_class_svm import OneClassSVM
from robustcls import InputError, load_classifier
from robustcls.distribution.parts import Ledger
from robustcls.files import read_arrays, read_sealed, write_arrays, write_sealed
from robustcls.models.stock import save_classifier
from robustcls.reports.evaluations import choose_evaluation
from robustcls.runs import Run
from robustcls.training.checkpoints import EpochCheckpoint, read_history


def model_of(seed=0):
    keras.utils.set_random_seed(seed)
    made = keras.Sequential(
        [keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(3, name="logits")]
    )
    made.compile(keras.optimizers.SGD(0.1, momentum=0.9), "mse")
    return made


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A run with a model, two checkpoints, an evaluation and a detector; not to be changed."""
    folder = tmp_path_factory.mktemp("kept") / "run"
    run = Run.create(folder, {"train": {"epochs": 2}, "data": {"fingerprint": "f"}, "seed": 3})
    model = model_of()
    checkpoint = EpochCheckpoint(run.folder("base"), identity=run.identity)
    checkpoint.set_model(model)
    for epoch in range(2):
        model.layers[-1].bias.assign([epoch + 1.0, 0, 0])
        checkpoint.on_epoch_end(epoch, {"loss": 0.5 / (epoch + 1)})
    save_classifier(model, run.folder("base") / "model.keras")
    write_sealed(folder / "metrics.json", {"settings": {"steps": 20}, "base": {"clean": 0.75}})
    Ledger(folder / "evaluation", reuse=True).part("base", "clean", {"a": 1}, lambda _: {"n": 25})
    images = np.random.default_rng(0).random((40, 16, 16, 1), np.float32)
    detector = OneClassSVM(image_shape=(16, 16, 1), max_images=12, seed=1)
    detector.fit(images, verbose=0).save(folder / "detector")
    write_sealed(folder / "results" / "row-0-0.json", {"auroc": 0.75})
    return folder


@pytest.fixture
def run(kept, tmp_path):
    return shutil.copytree(kept, tmp_path / "run")


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def clear(path):
    path.write_bytes(b"")


def garble(path):
    path.write_bytes(np.random.default_rng(0).bytes(path.stat().st_size))


def zeros(path):
    """As a file system leaves a file whose content it lost in a power cut."""
    path.write_bytes(bytes(path.stat().st_size))


def flip(share):
    """Flips a byte, so far into the file."""

    def damage(path):
        content = bytearray(path.read_bytes())
        content[int(share * (len(content) - 1))] ^= 0xFF
        path.write_bytes(content)

    return damage


def digit(path):
    """Another number, in a file that is as good JSON as before."""
    text = path.read_text()
    found = next(re.finditer(r"(?<=[ .])\d(?=\d*,?\n)", text))
    path.write_text(f"{text[: found.start()]}{(int(found[0]) + 1) % 9}{text[found.end() :]}")


def replaced(text):
    return lambda path: path.write_text(text)


def edited(change, *, seal=False):
    """The object changed; without a seal as in files of before there were any."""

    def damage(path):
        content = json.loads(path.read_text())
        if not seal:
            del content["sha256"]
        change(content)
        path.write_text(json.dumps(content))

    return damage


def folder_instead(path):
    path.unlink()
    path.mkdir()


JSON = {
    "cut": cut,
    "empty": clear,
    "garbled": garble,
    "zeros": zeros,
    "digit": digit,
    "list": replaced("[]"),
    "null": replaced("null"),
    "nested": replaced("[" * 100_000),
    "latin": lambda path: path.write_bytes(b'{"a": "\xe9"}'),
    "folder": folder_instead,
}
ARCHIVE = {
    "cut": cut,
    "empty": clear,
    "garbled": garble,
    "zeros": zeros,
    **{f"flip {share}": flip(share) for share in (0.1, 0.5, 0.9)},
}


def named(kinds):
    return [pytest.param(damage, id=kind) for kind, damage in kinds.items()]


def one_line(path, read):
    with pytest.raises(InputError) as caught:
        read()
    assert str(path) in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    "damage",
    named(
        {
            **JSON,
            "lacking": edited(lambda content: content.pop("data")),
            "lacking within": edited(lambda content: content.update(data={})),
            "edited": edited(lambda content: content.update(seed=4), seal=True),
            "nan": edited(lambda content: content.update(seed=float("nan"))),
        }
    ),
)
def test_a_damaged_configuration_is_named(damage, run):
    damage(run / "config.json")
    one_line(run, lambda: Run(run).config["data"]["fingerprint"])


@pytest.mark.parametrize(
    "damage",
    named(
        {
            **ARCHIVE,
            "another": lambda path: write_arrays(path, {"a": np.zeros(3)}),
            "no state": lambda path: write_arrays(
                path, {**read_arrays(path), "state": np.array("{")}
            ),
            "other values": lambda path: np.savez(
                path, **{**np.load(path), "0": np.ones((16, 3), np.float32)}
            ),
        }
    ),
)
def test_of_a_damaged_checkpoint_the_one_before_is_taken(damage, run, capsys):
    newest = run / "base" / "checkpoints" / "epoch-002.npz"
    damage(newest)
    model = model_of(1)
    checkpoint = EpochCheckpoint(run / "base", identity=Run(run).identity)
    assert checkpoint.restore(model) == 1
    np.testing.assert_array_equal(model.layers[-1].bias, [1, 0, 0])
    said = capsys.readouterr().err
    assert str(newest) in said
    assert "the one before is taken" in said
    assert len(said.splitlines()) == 1
    # The next epoch is kept though the damaged one had its number.
    checkpoint.set_model(model)
    checkpoint.on_epoch_end(1, {"loss": 0.25})
    assert EpochCheckpoint(run / "base", identity=Run(run).identity).restore(model_of(1)) == 2


def test_without_a_whole_checkpoint_the_training_begins_anew(run, capsys):
    for path in (run / "base" / "checkpoints").glob("*.npz"):
        cut(path)
    assert EpochCheckpoint(run / "base").restore(model_of()) == 0
    assert len(capsys.readouterr().err.splitlines()) == 2


@pytest.mark.parametrize("damage", named(ARCHIVE))
def test_a_damaged_model_is_named(damage, run):
    path = run / "base" / "model.keras"
    damage(path)
    one_line(path, lambda: load_classifier(path))


@pytest.mark.parametrize(
    "damage", named({"garbled": garble, "word": replaced("epoch,loss\n1,x\n")})
)
def test_a_damaged_history_is_named(damage, run):
    path = run / "base" / "history.csv"
    damage(path)
    one_line(path, lambda: read_history(path))


@pytest.mark.parametrize(
    "damage", named({**JSON, "settings": edited(lambda content: content.update(settings=5))})
)
def test_damaged_figures_are_named(damage, run):
    path = run / "metrics.json"
    damage(path)
    if path.is_file():
        one_line(path, lambda: choose_evaluation(run, {"steps": 20}))


@pytest.mark.parametrize(
    "damage", named({**JSON, "lacking": edited(lambda content: content.pop("result"))})
)
def test_a_damaged_part_is_measured_again(damage, run, capsys):
    path = run / "evaluation" / "base" / "clean.json"
    damage(path)
    if path.is_dir():
        path.rmdir()
    ledger = Ledger(run / "evaluation", reuse=True)
    assert ledger.part("base", "clean", {"a": 1}, lambda _: {"n": 26}) == {"n": 26}
    assert read_sealed(path)["result"] == {"n": 26}
    capsys.readouterr()
    assert ledger.part("base", "clean", {"a": 1}, lambda _: {"n": 27}) == {"n": 26}


def thresholds(**values):
    return edited(lambda content: content["thresholds"].update(values))


@pytest.mark.parametrize(
    "damage",
    named(
        {
            **JSON,
            "no threshold": edited(lambda content: content["thresholds"].clear()),
            "threshold null": thresholds(threshold=None),
            "threshold nan": thresholds(threshold=float("nan")),
            "threshold 1e999": lambda path: path.write_text(
                re.sub(r'("threshold": )[^\n]*', r"\g<1>1e999", path.read_text())
            ),
            "threshold word": thresholds(threshold="0.5"),
            "another threshold": edited(
                lambda content: content["thresholds"].update(threshold=9e9), seal=True
            ),
            "no weights": edited(lambda content: content.pop("weights")),
            "weights null": edited(lambda content: content.update(weights=None)),
            "method null": edited(lambda content: content.update(method=None)),
            "no settings": edited(lambda content: content.update(settings=[])),
            "another kind": edited(lambda content: content.update(kind="classifier")),
        }
    ),
)
def test_a_damaged_detector_is_named(damage, run):
    folder = run / "detector"
    damage(folder / "config.json")
    one_line(folder, lambda: OneClassDetector.load(folder))


@pytest.mark.parametrize("damage", named({**ARCHIVE, "missing": lambda path: path.unlink()}))
def test_damaged_weights_of_a_detector_are_named(damage, run):
    (path,) = (run / "detector").glob("weights-*.npz")
    damage(path)
    one_line(path, lambda: OneClassDetector.load(run / "detector"))


@pytest.mark.parametrize("damage", named(JSON))
def test_a_damaged_result_of_a_benchmark_is_measured_again(damage, run, capsys):
    path = run / "results" / "row-0-0.json"
    assert is_whole(path)
    damage(path)
    assert not is_whole(path)
    assert str(path) in capsys.readouterr().err


def test_a_checkpoint_of_another_training_is_refused(run):
    other = Run.create(run.parent / "other", {"train": {"epochs": 2}, "seed": 4})
    shutil.copytree(run / "base", other.folder("base"))
    with pytest.raises(InputError, match="of one with another seed, other settings or other"):
        EpochCheckpoint(other.folder("base"), identity=other.identity).restore(model_of())
    # Those of before checkpoints had an identity are taken.
    path = other.folder("base") / "checkpoints" / "epoch-002.npz"
    arrays = read_arrays(path)
    state = json.loads(str(arrays["state"]))
    del state["identity"]
    np.savez(path, **{**arrays, "state": np.array(json.dumps(state))})
    assert EpochCheckpoint(other.folder("base"), identity=other.identity).restore(model_of()) == 2


def test_the_table_of_a_training_killed_before_its_last_row_is_made_whole(run):
    table = (run / "base" / "history.csv").read_text()
    (run / "base" / "history.csv").write_text("".join(table.splitlines(True)[:2]))
    EpochCheckpoint(run / "base", identity=Run(run).identity).restore(model_of())
    assert (run / "base" / "history.csv").read_text() == table
