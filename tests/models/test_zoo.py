"""The robust models inside the package, and their cards."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

import robustcls as rc
from robustcls import InputError
from robustcls.bounds import certify_by_bounds
from robustcls.cli import main
from robustcls.models.zoo import cards, names, read_card

NAMES = names()


@pytest.mark.parametrize("name", NAMES)
def test_a_card_says_what_its_model_does(name):
    card = read_card(name)
    model = rc.load_pretrained(name)
    assert model.count_params() == card.parameters
    attacked = [value for key, value in card.results.items() if key not in ("clean", "certified")]
    assert all(card.results["certified"] <= value <= card.results["clean"] for value in attacked)
    assert card.weights.stat().st_size < 5e6
    if not card.data.endswith("_mini"):
        return  # needs images from a registry
    test = rc.load(card.data).test
    found = certify_by_bounds(model, test.float_images(), test.labels, epsilon=card.epsilon)
    assert found.clean_accuracy == pytest.approx(card.results["clean"], abs=1e-3)
    assert found.certified_accuracy == pytest.approx(card.results["certified"], abs=1e-3)
    # No attack turns what is certified.
    chosen = np.flatnonzero(found.certified)[:40]
    images, labels = test.float_images()[chosen], test.labels[chosen]
    attack = rc.attacks.PGD(epsilon=card.epsilon, steps=20, restarts=2)
    assert not attack(model, images, labels).success.any()


def test_commands(capsys):
    main(["zoo", "list"])
    assert NAMES
    printed = capsys.readouterr().out.replace("\n", "")
    assert "Robust models" in printed
    main(["zoo", "show", NAMES[0]])
    assert f"name: {NAMES[0]}" in capsys.readouterr().out
    with pytest.raises(SystemExit) as stopped:
        main(["zoo", "show", NAMES[0][:-1]])
    assert stopped.value.code == 2
    assert f"Did you mean '{NAMES[0]}'?" in capsys.readouterr().err


@pytest.mark.long
def test_a_model_of_ones_own_gets_the_same_row(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    card = read_card("fashion_mnist_mini_linf_0.1_ibp")
    entry = ["zoo", "enter", str(card.weights), "--data", "fashion_mnist_mini", "--name", "mine"]
    entry += ["--epsilon", "0.1", "--limit", "12", "--objective", "ibp"]
    main(entry)
    assert "objective: ibp" in capsys.readouterr().out
    mine = read_card("mine", "zoo")
    assert (mine.images, mine.sha256) == (12, card.sha256)
    results = mine.results
    assert results["certified"] <= results["autoattack"] <= results["pgd100"] <= results["clean"]
    assert results["clean"] == pytest.approx(card.results["clean"], abs=0.4)
    images = np.zeros((1, 28, 28, 1), np.float32)
    expected = rc.load_pretrained(card.name)(images)
    np.testing.assert_array_equal(rc.load_pretrained("mine", "zoo")(images), expected)
    main(["zoo", "list", "--folder", "zoo"])
    assert "mine" in capsys.readouterr().out
    main(["zoo", "evaluate", "mine", "--folder", "zoo"])
    assert f"{100 * results['clean']:.2f}" in capsys.readouterr().out
    for changed, words in (
        (entry, "name must be free; zoo/mine.keras exists"),
        ([*entry, "--name", "../mine"], "name must be letters"),
        ([*entry, "--name", "x", "--norm", "1"], "norm must be one of"),
        ([*entry, "--name", "x", "--epsilon", "0"], "epsilon"),
        ([*entry, "--name", "x", "--limit", "0"], "limit"),
    ):
        with pytest.raises(SystemExit):
            main(changed)
        assert words in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["zoo", "list", "--folder", str(tmp_path)])
    assert "folder must hold cards" in capsys.readouterr().err


def test_other_weights_than_the_card_says_are_refused(tmp_path, monkeypatch):
    card = read_card(NAMES[0])
    shutil.copy(card.weights, tmp_path)
    fields = {**dataclasses.asdict(card), "sha256": "0" * 64}
    del fields["name"], fields["folder"]
    (tmp_path / f"{card.name}.json").write_text(json.dumps(fields))
    monkeypatch.setattr(cards, "FOLDER", tmp_path)
    with pytest.raises(InputError, match="must be the file on its card, SHA-256 000000000000"):
        rc.load_pretrained(card.name)
