"""Which versions are served, and by which names, while folders change."""

import asyncio
import types

import pytest

from robustcls import InputError
from robustcls.serving.errors import ServingError
from robustcls.serving.exports.configuration import ModelConfig
from robustcls.serving.server import registry as module
from robustcls.serving.server.metrics import Metrics
from robustcls.serving.server.registry import Registry


@pytest.fixture
def served(tmp_path, monkeypatch):
    """A function that makes a registry of versions 1 to 3, which loads what has all its files."""

    def load(folder):
        if not (folder / "variables").is_file():
            raise InputError(f"{folder} lacks its variables.")
        return types.SimpleNamespace(signatures={}, folder=folder)

    monkeypatch.setattr(module, "load_version", load)
    for number in (1, 2, 3):
        (tmp_path / str(number)).mkdir()
        for file in ("saved_model.pb", "variables"):
            (tmp_path / str(number) / file).touch()

    def make(**policy):
        config = ModelConfig("tiny", tmp_path, **policy)
        return Registry([config], lambda *given: None, Metrics())

    return make


def answering(registry, version=None, label=None):
    with registry.lease("tiny", version, label) as found:
        return found.number


def test_versions_that_are_named_are_all_served_with_their_labels(served):
    registry = served(specific=(1, 3), labels=(("stable", 1), ("canary", 3)))
    asyncio.run(registry.scan())
    assert sorted(registry.models["tiny"].versions) == [1, 3]
    assert answering(registry, label="stable") == 1
    assert answering(registry, label="canary") == answering(registry) == 3
    with pytest.raises(ServingError, match=r"one of those available \(1, 3\)"):
        answering(registry, version=2)
    with pytest.raises(ServingError, match=r"label must be one of canary, stable"):
        answering(registry, label="beta")


@pytest.mark.parametrize(("latest", "expected"), [(1, [3]), (2, [2, 3]), (0, [1, 2, 3])])
def test_else_the_newest_are(served, latest, expected):
    registry = served(latest=latest)
    asyncio.run(registry.scan())
    assert sorted(registry.models["tiny"].versions) == expected


def test_a_version_that_is_copied_file_by_file_is_served_in_the_end(served, tmp_path):
    registry = served()
    (tmp_path / "4").mkdir()
    (tmp_path / "4" / "saved_model.pb").touch()
    for _ in range(2):
        asyncio.run(registry.scan())
        assert answering(registry) == 3
    assert "lacks its variables" in registry.models["tiny"].failed[4][1]
    (tmp_path / "4" / "variables").touch()
    asyncio.run(registry.scan())
    assert answering(registry) == 4
