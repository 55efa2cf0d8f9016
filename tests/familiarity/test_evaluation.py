"""Figures of familiarity, on sets with known answers, and the command that writes them."""

import json

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import roc_auc_score

import robustcls as rc
from robustcls.cli import main
from robustcls.familiarity.measures import auroc, false_positives, share
from robustcls.familiarity.runs import judge
from robustcls.familiarity.sets import load_sets
from robustcls.serving.exports.exporting import export_run


def test_auroc_is_scikit_learn_s_and_its_interval_holds():
    draws = np.random.default_rng(0)
    within = 0
    for _ in range(200):
        known, others = draws.normal(1, 1, 60).round(1), draws.normal(0, 1, 90).round(1)
        found = auroc(known, others)
        expected = roc_auc_score([1] * 60 + [0] * 90, np.concatenate([known, others]))
        assert found.value == pytest.approx(expected, abs=1e-12)
        within += found.low <= 0.7602 <= found.high  # Φ(1/√2)
    assert within >= 190
    best = auroc(np.ones(30), np.zeros(50))
    assert best.value == 1
    assert best.low == pytest.approx(0.025 ** (1 / 30))


def test_false_positives_where_95_percent_of_the_known_pass():
    known = np.arange(100.0)
    others = np.array([4.0, 5.0, 6.0, 50.0])
    assert false_positives(known, others).value == 0.75
    assert false_positives(np.arange(3.0), others).value == 1
    assert share(0, 10).low == 0


def test_made_sets():
    found = load_sets(["noise", "flat"], (6, 5, 3), limit=7, seed=1).splits
    assert found["noise"].images.shape == (7, 6, 5, 3)
    assert (found["flat"].images == found["flat"].images[:, :1, :1]).all()
    assert len(np.unique(found["flat"].images.reshape(7, -1, 3)[:, 0], axis=0)) == 7
    again = load_sets(["noise"], (6, 5, 3), limit=7, seed=1).splits["noise"].images
    np.testing.assert_array_equal(found["noise"].images, again)
    with pytest.raises(rc.InputError, match="different names"):
        load_sets(["noise", "noise"], (6, 5, 3), limit=7, seed=1)


def test_report(material, images):
    fitted = [material.fit(name) for name in ("energy", "msp")]
    draws = np.random.default_rng(5)
    noise = draws.uniform(size=(30, 8, 8, 1)).astype(np.float32)
    attack = rc.attacks.FGSM(epsilon=0.1)
    report = rc.familiarity.evaluate(
        fitted, images, far={"noise": noise}, near={"same": images}, attack=attack, attack_limit=20
    )
    assert [(r.method, r.name, r.kind) for r in report.results] == [
        ("energy", "noise", "far"),
        ("energy", "same", "near"),
        ("msp", "noise", "far"),
        ("msp", "same", "near"),
    ]
    first = report.results[0]
    scores = fitted[0].score(noise)
    assert first.refused.value == np.mean(scores < fitted[0].threshold)
    assert first.auroc.value == auroc(fitted[0].score(images), scores).value
    assert report.results[1].auroc.value == 0.5
    assert first.attacked is not None
    assert report.results[2].attacked is None
    few = noise[:20]
    moved = attack(fitted[0].as_classifier(), few, np.zeros(20, int))
    assert first.attacked.value == pytest.approx(1 - moved.success.mean())
    assert set(report.attacked_alarms) == {"energy"}
    assert report.mean("msp", "far") == report.results[2].auroc.value
    json.dumps(report.to_json(), allow_nan=False)
    assert len(report.to_csv().splitlines()) == 5
    assert len(report.to_markdown().splitlines()) == 2 + 6
    assert "energy tells far images apart" in " ".join(report.findings)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"far": None}, "far or near must be one or more"),
        ({"far": {"x": np.zeros((2, 9, 8, 1), np.float32)}}, r"\(8, 8, 1\)"),
        ({"attack_limit": 0}, "attack_limit"),
    ],
)
def test_bad_input(changes, words, material, images):
    arguments = {"far": {"same": images}} | changes
    with pytest.raises(rc.InputError, match=words):
        rc.familiarity.evaluate(material.fit("msp"), images, **arguments)


@pytest.fixture
def splits(images):
    return rc.Splits(
        images, images.take(np.arange(40)), images.take(np.arange(60)), ("a", "b", "c", "d"), "made"
    )


def test_page_and_files(model, splits, tmp_path):
    kept = {"base": tmp_path / "base" / "familiarity.npz"}
    written = judge(
        {"base": model}, splits, tmp_path / "report", kept, title="made", methods=["vim", "msp"]
    )
    page = written.page.read_text()
    for words in ("far noise", "far flat", "refused", "FPR95", "Beside the nearest training"):
        assert words in page
    names = {path.name for path in (tmp_path / "report").iterdir()}
    assert {f"familiarity_base.{end}" for end in ("json", "csv", "md", "png")} < names
    loaded = rc.familiarity.load(kept["base"], model)
    np.testing.assert_array_equal(
        loaded.is_familiar(splits.test), written.judged[0].fitted.is_familiar(splits.test)
    )
    for sets, words in (
        ({"far": [], "near": []}, "far or near must name"),
        ({"far": ["noise"], "near": ["noise"]}, "far or near; received 'noise' for both"),
        ({"methods": ["vin"]}, "Did you mean 'vim'"),
    ):
        with pytest.raises(rc.InputError, match=words):
            judge({"base": model}, splits, tmp_path, kept, title="made", **sets)


def test_command_on_a_file(model, images, run_here, tmp_path):
    from PIL import Image

    for place, (image, label) in enumerate(zip(images.images, images.labels, strict=True)):
        folder = tmp_path / "data" / f"class_{label}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[..., 0]).save(folder / f"{place}.png")
    model.save(tmp_path / "tiny.keras")
    done = run_here(
        main, "familiarity", tmp_path / "tiny.keras", "--data", tmp_path / "data",
        "--methods", "vim,msp", "--false_alarm_rate", "0.1", "--attack", "fgsm",
        "--attack_limit", "10",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "tiny-familiarity" / "familiarity.html").is_file()
    assert "AUROC" in done.stdout
    for flags, words in (
        ((), "data must name the images"),
        (("--data", tmp_path / "data", "--far", "nowhere"), "nowhere"),
        (("--data", tmp_path / "data", "--attack", "pdg"), "Did you mean 'pgd'"),
        (("--data", tmp_path / "data", "--false_alarm_rate", "5"), "Did you mean 0.05"),
    ):
        done = run_here(main, "familiarity", tmp_path / "tiny.keras", *flags)
        assert done.returncode == 2
        assert words in done.stderr
        assert done.stderr.count("\n") == 1


def test_the_export_of_a_run_carries_it(model, splits, tmp_path, monkeypatch):
    from robustcls.serving.exports import exporting

    (tmp_path / "config.json").write_text("{}")
    model.save(tmp_path / "model.keras")
    (tmp_path / "base").mkdir()
    (tmp_path / "model.keras").rename(tmp_path / "base" / "model.keras")
    rc.familiarity.fit(model, splits, false_alarm_rate=0.1).save(tmp_path / "base/familiarity.npz")
    monkeypatch.setattr(exporting, "open_run", lambda run, name: (model, splits, {}))
    written = export_run(tmp_path)
    card = (written / "MODEL_CARD.md").read_text()
    assert "`familiarity` float32 [N]" in card
    (tmp_path / "base/familiarity.npz").write_bytes(b"damaged")
    with pytest.raises(rc.InputError, match=r"familiarity\.npz"):
        export_run(tmp_path)


def test_bad_files_of_unfamiliar_sets_are_skipped_on_request(tmp_path):
    for number in range(20):
        file = tmp_path / "sets" / "ab"[number % 2] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (6, 6), 10 * number).save(file)
    file.write_bytes(b"broken")
    name, settings = str(tmp_path / "sets"), {"limit": None, "seed": 0}
    with pytest.raises(rc.InputError, match=r"19\.png cannot be read"):
        load_sets([name], (6, 6, 1), **settings)
    found = load_sets([name], (6, 6, 1), skip_bad_images=True, **settings)
    assert "19.png" in found.left_out[0]
    assert len(found.splits["sets"]) == 4
