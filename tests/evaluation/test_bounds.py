"""`robustcls certify --bound`, and the front of the best models in the report."""

import json

import keras
import pytest

from robustcls import InputError, attacks, load
from robustcls.cli import main
from robustcls.evaluation.reports.report import _front, front
from robustcls.evaluation.runs.bounds import BoundsConfig


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A linear model, for which bounds are exact."""
    keras.utils.set_random_seed(0)
    splits = load("fashion_mnist_mini", image_size=7)
    model = keras.Sequential(
        [keras.Input((7, 7, 1)), keras.layers.Flatten(), keras.layers.Dense(10)]
    )
    model.compile(
        keras.optimizers.Adam(0.02), keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    model.fit(splits.train.float_images(), splits.train.labels, verbose=0, batch_size=256)
    path = tmp_path_factory.mktemp("model") / "linear.keras"
    model.save(path)
    return path


@pytest.fixture(scope="module")
def robust_accuracy(saved):
    test = load("fashion_mnist_mini", image_size=7).test
    attack = attacks.PGD(epsilon=0.03, steps=40)
    return attack(saved, test.float_images(), test.labels).robust_accuracy


@pytest.mark.parametrize("bound", ["ibp", "crown"])
def test_certify_by_bounds(saved, robust_accuracy, tmp_path, bound, capsys):
    out = tmp_path / "out"
    command = ["certify", str(saved), "--data", "fashion_mnist_mini", "--out", str(out)]
    main([*command, "--bound", bound, "--epsilon", "0.03", "--limit", "300"])
    printed = capsys.readouterr().out
    assert "certified" in printed
    assert printed.splitlines()[-1] == str(out)
    found = json.loads((out / "bounds.json").read_text())
    result = found["model"]
    assert result["certified"]["count"] == 300
    assert result["certified"]["low"] < result["certified"]["accuracy"]
    assert found["settings"]["epsilon"] == 0.03
    # Bounds of a linear model lose nothing: PGD reaches them.
    assert 0.2 < result["certified"]["accuracy"] < result["clean"]["accuracy"]
    assert result["certified"]["accuracy"] == pytest.approx(robust_accuracy, abs=0.07)


def test_wrong_flags_are_one_line(saved, tmp_path, capsys):
    command = ["certify", str(saved), "--data", "fashion_mnist_mini", "--out", str(tmp_path / "o")]
    for flags, message in (
        (["--epsilon", "0.1"], "epsilon needs --bound ibp or crown"),
        (["--bound", "lp"], "bound must be one of crown, ibp; received 'lp'"),
        (["--bound", "ibp", "--epsilon", "8"], "epsilon must be in (0, 1]"),
    ):
        with pytest.raises(SystemExit) as stopped:
            main([*command, *flags])
        assert stopped.value.code == 2
        error = capsys.readouterr().err.strip()
        assert message in error
        assert len(error.splitlines()) == 1
    with pytest.raises(InputError, match="limit must be an integer >= 1"):
        BoundsConfig(limit=0)


def test_the_front_holds_what_nothing_beats():
    accuracies = {"base": (0.95, 0.0), "pgd": (0.8, 0.6), "free": (0.79, 0.5), "trades": (0.7, 0.7)}
    metrics = {
        "models": list(accuracies),
        **{name: {"clean": clean, "fgsm": robust} for name, (clean, robust) in accuracies.items()},
    }
    assert front(metrics, "fgsm") == ["trades", "pgd", "base"]
    chart = str(_front(metrics, "fgsm"))
    assert "Pareto front: 70.0 % at 0.7, 60.0 % at 0.8, 0.0 % at 0.95" in chart
    assert _front(metrics, None) is None
    assert _front({**metrics, "models": ["base"]}, "fgsm") is None
    assert all(name in chart for name in accuracies)
