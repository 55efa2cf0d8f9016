"""An evaluation in shards is, once merged, the one that a single process makes."""

import dataclasses
import shutil

import numpy as np
import pytest

from robustcls import InputError
from robustcls.distribution.shards import Shard, measure_shard, require_shards
from robustcls.evaluation.runs.certification import certify_models
from robustcls.evaluation.runs.comparison import chosen_evaluation, evaluate_models
from robustcls.evaluation.runs.config import EvaluationConfig
from robustcls.evaluation.runs.models import ModelsAndImages, StoredModel
from robustcls.evaluation.runs.work import work_of
from robustcls.evaluation.smoothing.config import SmoothingConfig

CONFIG = EvaluationConfig(attack="fgsm", curve_limit=0, limit=8, batch_size=16)


@pytest.fixture
def evaluated(honest, splits, tmp_path):
    models = [StoredModel(name, name, lambda: honest) for name in ("base", "adversarial")]
    return ModelsAndImages(
        title="run",
        folder=tmp_path / "whole",
        models=tuple(models),
        test=splits.test.take(np.arange(24)),
        class_names=splits.class_names,
        source="a set",
        fingerprint="0123",
    )


def merge(evaluated, config=CONFIG, folders=()):
    require_shards(work_of(evaluated, config), folders)
    return evaluate_models(evaluated, config, resume=True)


@pytest.mark.long
def test_merged_shards_are_one_process_bit_by_bit(evaluated, tmp_path):
    whole = evaluate_models(evaluated, CONFIG)
    # The first two shards share a folder, the third is elsewhere.
    here, there = (
        chosen_evaluation(dataclasses.replace(evaluated, folder=tmp_path / name), CONFIG)
        for name in ("here", "there")
    )
    measured = [
        measure_shard(work_of(place, CONFIG), Shard(number, 3))
        for number, place in ((1, here), (2, here), (3, there))
    ]
    assert sorted(map(len, measured)) == [4, 4, 4]
    with pytest.raises(InputError, match="1 of them is missing"):
        merge(here)
    assert not (here.folder / "metrics.json").exists()
    with pytest.raises(InputError, match="missing are base/gaussian, base/poisson"):
        merge(here, dataclasses.replace(CONFIG, severity=1), [there.folder])
    (here.folder / "evaluation/shard_3_of_3 (copy).json").write_text("{}")
    left = there.folder / "evaluation/shard_3_of_3.json"
    said = left.read_text()
    left.write_text("[]")
    with pytest.raises(InputError, match=r"shard_3_of_3.json must be what a shard has left"):
        merge(here, CONFIG, [there.folder])
    left.write_text(said)
    assert merge(here, CONFIG, [there.folder]) == whole
    files = [folder / "metrics.json" for folder in (evaluated.folder, here.folder)]
    assert files[0].read_bytes() == files[1].read_bytes()

    (here.folder / "evaluation/base/fgsm.json").unlink()
    with pytest.raises(InputError, match="missing are base/fgsm"):
        merge(here)
    shutil.rmtree(here.folder / "evaluation")
    with pytest.raises(InputError, match="it holds none"):
        merge(here)


def test_a_certification_is_divided_by_images(evaluated, tmp_path, monkeypatch):
    monkeypatch.setattr("robustcls.evaluation.runs.certification._IMAGES", 2)
    config = SmoothingConfig(samples=20, selection=5, limit=5)
    whole = certify_models(evaluated, config)
    divided = dataclasses.replace(evaluated, folder=tmp_path / "divided")
    titles = [measure_shard(work_of(divided, config), Shard(n, 2)) for n in (2, 1)]
    assert sorted(title for shard in titles for title in shard) == [
        f"{model}/smoothing-{start:06d}" for model in ("adversarial", "base") for start in (0, 2, 4)
    ]
    require_shards(work_of(divided, config))
    monkeypatch.setattr("robustcls.evaluation.runs.certification.certify", None)
    assert certify_models(divided, config, resume=True) == whole


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "1/0", "a/b", "1/2/3", "-1/2"])
def test_a_shard_that_is_none_is_one_line(text):
    assert Shard.parse("2/5") == Shard(2, 5)
    with pytest.raises(InputError, match="shards must be like 2/5"):
        Shard.parse(text)
