"""Importing is quick and quiet, and every name of version 0.1 goes on working."""

import importlib
import os
import subprocess
import sys

import pytest

import anomaly
import robustcls
from anomaly._moved import MOVED as MOVED_OF_ANOMALY
from robustcls._moved import MOVED

FORMER = {
    f"{package.__name__}.{former}": f"{package.__name__}.{present}"
    for package, table in ((robustcls, MOVED), (anomaly, MOVED_OF_ANOMALY))
    for former, present in table.items()
}
# Modules of 0.1 that are folders now, with names that were in them.
FOLDERS = {
    "anomaly.deep_svdd": ("DeepSVDD",),
    "anomaly.ebgan": ("EBGAN", "build_autoencoder", "build_generator"),
    "anomaly.experiments": (
        "evaluate_detector",
        "load_detector",
        "open_detector_run",
        "train_detector",
    ),
    "anomaly.localization": ("Box", "draw_boxes", "find_boxes", "picture_of", "smooth"),
    "anomaly.memae": ("MemAE", "MemoryReconstruction"),
    "anomaly.ognet": ("OGNet", "build_discriminator", "build_generator"),
    "robustcls.evaluation.corruptions": (
        "CORRUPTIONS",
        "NOISE_CORRUPTIONS",
        "SEVERITIES",
        "corrupt",
    ),
    "robustcls.evaluation.smoothing": ("ABSTAINED", "Certification", "certify", "radius_of"),
    "robustcls.evaluation.trust": ("Check", "believable", "check", "summary"),
    "robustcls.training.adversarial": ("AdversarialRegularization",),
    "robustcls.explanation.quality": (
        "SURVIVES",
        "Quality",
        "assess",
        "randomization",
        "stability",
    ),
}


def run(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("package", ["robustcls", "anomaly"])
@pytest.mark.parametrize("program", ["-c", "notebook", "robustcls"])
def test_importing_leaves_tensorflow_alone(package, program):
    heavy = "[name for name in ('tensorflow', 'keras', 'numpy', 'matplotlib') if name in m]"
    code = (
        f"import sys; sys.argv[0] = {program!r}; import {package}; m = sys.modules; print({heavy})"
    )
    assert run(code) == "[]"


@pytest.mark.parametrize("command", ["robustcls", "anomaly"])
def test_help_leaves_tensorflow_alone(command):
    code = (
        f"import sys; from {command}.cli import parser; parser();"
        "print([name for name in ('tensorflow', 'keras') if name in sys.modules])"
    )
    assert run(code) == "[]"


@pytest.mark.long
@pytest.mark.parametrize(
    "first", [pytest.param("robustcls", marks=pytest.mark.exhaustive), "keras"]
)
def test_keras_knows_our_layers_whichever_is_imported_first(first):
    code = (
        f"import {first}; import robustcls; import keras;"
        "print(keras.saving.get_registered_object('robustcls>FusedBatchNormalization').__name__)"
    )
    assert run(code) == "FusedBatchNormalization"


LINES = """WARNING: All log messages before absl::InitializeLog() is called
I0000 00:00:1 port.cc:153] oneDNN
To enable the following instructions: A
E0000 00:00:1 cuda.cc:52] no driver
"""


@pytest.mark.parametrize(
    ("importing", "lines"),
    [
        ("exec('import tensorflow', {'__name__': 'robustcls.x'})", LINES.splitlines()[-1:]),
        ("import tensorflow", LINES.splitlines()),
    ],
)
def test_tensorflow_starts_without_lines_of_information(importing, lines, tmp_path):
    """A stand-in writes what TensorFlow writes; a user's own import of it is left alone."""
    stand_in = f"import os\nos.write(2, {LINES.encode()!r})\n"
    (tmp_path / "tensorflow.py").write_text(stand_in)
    environment = {key: value for key, value in os.environ.items() if key[:3] != "TF_"}
    paths = [str(tmp_path), environment.get("PYTHONPATH", "")]
    done = subprocess.run(
        [sys.executable, "-c", f"import robustcls; {importing}"],
        capture_output=True,
        text=True,
        env=environment | {"PYTHONPATH": os.pathsep.join(paths)},
    )
    assert done.stderr.splitlines() == lines


@pytest.mark.parametrize("former", sorted(FORMER))
def test_a_former_module_is_the_present_one(former):
    module = importlib.import_module(former)
    assert module is importlib.import_module(FORMER[former])
    assert module.__name__ == FORMER[former]


@pytest.mark.parametrize("package", sorted(FOLDERS))
def test_a_module_that_became_a_folder_has_its_names(package):
    module = importlib.import_module(package)
    assert [name for name in FOLDERS[package] if not hasattr(module, name)] == []


@pytest.mark.parametrize("package", [robustcls, anomaly])
def test_every_public_name_is_there(package):
    assert set(dir(package)) >= set(package.__all__)
    assert [name for name in package.__all__ if getattr(package, name, None) is None] == []
