"""Every code block of the README runs."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
# What would take minutes, ask the network or run this test again, and what stands in for it.
CHEAPER = {
    "bash scripts/quickstart": (
        "bash scripts/quickstart runs/quickstart --epochs 1"
        " --model.weights null --model.alpha 0.35 --model.resize_to 32 --model.output_stride 32"
    ),
    "robustcls explain runs/quickstart --epsilon 0.05 --limit 16": (
        "robustcls explain runs/quickstart --limit 2 --quality_limit 0 --steps 2"
        " --methods gradients --out explained"
    ),
    "bash scripts/test": "bash scripts/test --collect-only -q",
    "robustcls evaluate runs/quickstart --attack autoattack --corruptions cifar_c --trust"
    " --limit 500": "robustcls evaluate runs/quickstart --attack apgd --corruptions cifar_c"
    " --trust --trust_images 8 --limit 8 --curve_limit 0",
    "robustcls evaluate runs/quickstart/base/model.keras --data fashion_mnist_mini"
    " --out runs/any_model": "robustcls evaluate runs/quickstart/base/model.keras"
    " --data fashion_mnist_mini --out runs/any_model --limit 8 --curve_limit 0",
    "robustcls certify runs/quickstart --sigma 0.25 --samples 1000 --alpha 0.001 --limit 500": (
        "robustcls certify runs/quickstart --samples 50 --limit 4"
    ),
}
DRY_RUN = "pip install --dry-run --no-deps --no-build-isolation"
UNTRIED = {
    "pip install .": f"{DRY_RUN} {ROOT}",
    "pip install '.[serving]'": f"{DRY_RUN} {ROOT}[serving]",
    'pip install . "tensorflow[and-cuda]"': "true",
}


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


def environment():
    folder = str(Path(sys.executable).parent)
    return {
        **os.environ,
        "PATH": folder + os.pathsep + os.environ["PATH"],
        "VENV": sys.prefix,
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }


def test_only_known_languages():
    """A block in another language would not be tested."""
    fences = re.findall(r"^```(\w*)$", README, re.MULTILINE)
    assert set(fences[0::2]) <= {"bash", "python", "text", "yaml"}
    assert set(fences[1::2]) == {""}


@pytest.mark.slow
def test_python_blocks(tmp_path):
    code = "\n".join(blocks("python"))
    assert "AdversarialRegularization" in code
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_bash_blocks(tmp_path):
    if not (Path(sys.prefix) / ".installed").exists():
        pytest.skip("this environment was not made by scripts/environment.sh")
    # Runs land here; everything else is the checkout's.
    for path in ROOT.iterdir():
        if path.name != "runs":
            (tmp_path / path.name).symlink_to(path)
    lines = "".join(blocks("bash")).replace("\\\n", "").splitlines()
    commands = [line.split("  #")[0].strip() for line in lines if not line.startswith("#")]
    assert {"bash scripts/quickstart", "bash scripts/test"} <= set(commands)
    for command in filter(None, commands):
        tried = CHEAPER.get(command, UNTRIED.get(command, command))
        done = subprocess.run(
            ["bash", "-c", tried], cwd=tmp_path, env=environment(), capture_output=True, text=True
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
