"""README, guides and notebooks run as they stand; the site builds without a warning."""

import importlib
import importlib.util
import json
import os
import pkgutil
import posixpath
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

import robustcls as rc

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))]
PAGES = [page for page in PAGES if not {"_build", "generated"} & set(page.parts)]
NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))
BLOCK = re.compile(r"^```(bash|python)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
QUICKSTART = "runs/quickstart"
SMALL = "--limit 8 --curve_limit 0"
TROUSERS = "anomaly train --method autoencoder --data fashion_mnist_mini --normal-class 1"
PARTS = "anomaly train --method autoencoder --data parts --normal-class good"
# What would take minutes, ask the network or run this test again, and what stands in for it.
CHEAPER = {
    "bash scripts/quickstart": "true",  # the fixture has run it
    "bash scripts/test": "bash -n scripts/test",
    "robustcls train --config configs/quickstart.yaml --out runs/mine": (
        f"cp -r {QUICKSTART} runs/mine"
    ),
    f"robustcls explain {QUICKSTART} --epsilon 0.05 --limit 16": (
        f"robustcls explain {QUICKSTART} --limit 2 --quality_limit 0 --steps 2 --out explained"
    ),
    f"robustcls evaluate {QUICKSTART} --attack autoattack --corruptions cifar_c --trust"
    " --limit 500": f"robustcls evaluate {QUICKSTART} --attack fgsm --corruptions cifar_c {SMALL}",
    f"robustcls evaluate {QUICKSTART} --epsilon 0.03 --steps 5 --limit 100 --curve_limit 32": (
        f"robustcls evaluate {QUICKSTART} --epsilon 0.03 --steps 5 {SMALL}"
    ),
    f"robustcls zoo enter {QUICKSTART}/adversarial/model.keras --name mine"
    " --data fashion_mnist_mini --epsilon 0.03 --limit 200 --objective nsl": (
        f"robustcls zoo enter {ROOT}/robustcls/models/zoo/fashion_mnist_mini_linf_0.1_ibp.keras"
        " --name mine --data fashion_mnist_mini --epsilon 0.03 --limit 20 --objective nsl"
    ),
    "robustcls evaluate runs/mine --epsilon 8/255 --limit 100": (
        f"robustcls evaluate runs/mine --epsilon 8/255 --steps 5 {SMALL}"
    ),
    f"robustcls evaluate {QUICKSTART}/base/model.keras --data fashion_mnist_mini"
    " --out runs/any_model": f"robustcls evaluate {QUICKSTART}/base/model.keras"
    f" --data fashion_mnist_mini --out runs/any_model --steps 5 {SMALL}",
    f"robustcls certify {QUICKSTART} --sigma 0.25 --samples 1000 --alpha 0.001 --limit 500": (
        f"robustcls certify {QUICKSTART} --samples 50 --limit 4"
    ),
    f"robustcls export {QUICKSTART} --name shirts --out exports/shirts": "true",
    "robustcls check-export exports/shirts": "robustcls check-export exports/fitted",
    f"{TROUSERS} --out runs/trousers": f"{TROUSERS} --epochs 2 --out runs/trousers",
    f"{PARTS} --out runs/parts": f"{PARTS} --epochs 2 --out runs/parts",
    "pip install .": f"pip install --dry-run --no-deps --no-build-isolation {ROOT}",
    "pip install '.[serving]'": "true",
}
# The same for parts of Python blocks.
CHEAPER_PYTHON = {
    "batch_size=64), epochs=1)": "batch_size=64).take(3), epochs=1)",
    "AutoEncoder(image_shape=splits.image_shape)": (
        "AutoEncoder(image_shape=splits.image_shape, epochs=1)"
    ),
    "AutoEncoder(image_shape=(28, 28, 1))": "AutoEncoder(image_shape=(28, 28, 1), epochs=2)",
}

# MobileNetV2 with two stages of one block, since blocks cost what it takes to trace all its layers;
# they halve the pictures, as concepts are looked for at every place. A quarter of the images.
SHALLOW = """
from robustcls.data import embedded_sets
from robustcls.models import mobilenet_v2

first = mobilenet_v2.STAGES[:2]
mobilenet_v2.STAGES = tuple((channels, 1, 2) for channels, *_ in first)
some = embedded_sets._records()[::4]
embedded_sets._records = lambda: some
"""

# Runs the blocks of every page in one process, since TensorFlow takes seconds to import, and writes
# what went wrong as JSON by page. The commands of both packages are called as their scripts do.
RUNNER = """
import contextlib, gc, io, json, os, shlex, subprocess, sys, time, traceback

import anomaly.cli
import robustcls.cli
import shallow

COMMANDS = {"anomaly": anomaly.cli.main, "robustcls": robustcls.cli.main}


def call(command):
    words = shlex.split(command)
    if words[0] not in COMMANDS:
        done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return
    try:
        COMMANDS[words[0]](words[1:])
    except SystemExit as left:
        assert not left.code, f"status {left.code}"


# As in conftest.py.
gc.collect()
gc.freeze()
gc.set_threshold(50_000, 20, 50)
failures, seen = {}, set()
for page, blocks in json.load(open(sys.argv[1])).items():
    begun = time.monotonic()
    names, printed = {"__name__": "__main__"}, io.StringIO()
    for place, language, code in blocks:
        try:
            with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
                if language == "python":
                    exec(compile(code, place, "exec"), names)
                else:
                    for command in code:
                        place = command
                        if command not in seen:  # pages repeat commands; the results stay
                            call(command)
                            seen.add(command)
        except BaseException:
            failures[page] = f"{place}\\n{traceback.format_exc()}\\n{printed.getvalue()[-3000:]}"
            break
    print(page, round(time.monotonic() - begun, 1), "s", file=sys.stderr, flush=True)
with open(sys.argv[2], "w") as file:
    json.dump(failures, file)
"""


def blocks(page):
    """Returns (place, language, code) of each block that runs; commands of bash one by one."""
    text = page.read_text(encoding="utf-8")
    for match in BLOCK.finditer(text):
        language, code = match.groups()
        place = f"{name(page)}:{text[: match.start()].count(chr(10)) + 1}"
        if language == "bash":
            lines = code.replace("\\\n", " ").splitlines()
            code = [line.split("  #")[0].strip() for line in lines if not line.startswith("#")]
        yield place, language, code


def name(path):
    """Returns the path within the checkout."""
    return str(path.relative_to(ROOT))


def cheaper(language, code):
    """Returns what runs in place of a block."""
    if language == "bash":
        return [CHEAPER.get(command, command) for command in code if command]
    for part, stand_in in CHEAPER_PYTHON.items():
        code = code.replace(part, stand_in)
    return code


def environment(folder):
    return {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": f"{ROOT}{os.pathsep}{folder}",
        "VENV": sys.prefix,
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }


def needs(*packages):
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


def run(command, folder):
    """Runs a command; what it printed is in the message when it fails."""
    done = subprocess.run(
        command, cwd=folder, env=environment(folder), capture_output=True, text=True
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-5000:]}\n{done.stderr[-5000:]}"


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A folder with everything of the checkout but its runs, and a small run of the quick start."""
    stamp = Path(sys.prefix) / ".installed"
    if not stamp.exists() or not stamp.read_text(encoding="utf-8").startswith(f"{ROOT} "):
        pytest.skip("scripts/environment.sh did not make this environment for this checkout")
    folder = tmp_path_factory.mktemp("checkout")
    for path in ROOT.iterdir():
        if path.name not in ("runs", "exports"):
            (folder / path.name).symlink_to(path)
    splits = rc.load("fashion_mnist_mini")
    for part, limit in (("train", 20), ("test", 4)):
        split = getattr(splits, part)
        for label in range(splits.num_classes):
            target = folder / "clothes" / part / f"{label}"
            target.mkdir(parents=True)
            for number, image in enumerate(split.images[split.labels == label][:limit, ..., 0]):
                Image.fromarray(image).save(target / f"{number}.png")
    (folder / "shallow.py").write_text(SHALLOW, encoding="utf-8")
    small = f"--data.name {folder}/clothes --data.channels 1 --epochs 1 --model.weights null"
    small += " --model.alpha 0.35 --model.resize_to null --import shallow"
    run(["bash", "scripts/quickstart", f"{folder}/{QUICKSTART}", *small.split()], folder)
    return folder


@pytest.fixture(scope="module")
def failures(checkout, request):
    """What went wrong in the blocks, by page; README's come first, others go on from them."""
    asked = [item.callspec.params["page"] for item in request.session.items if is_run(item)]
    pages = {
        name(page): [(place, language, cheaper(language, code)) for place, language, code in found]
        for page, found in ((page, blocks(page)) for page in PAGES if page in asked + PAGES[:1])
    }
    (checkout / "blocks.json").write_text(json.dumps(pages), encoding="utf-8")
    run([sys.executable, "-c", RUNNER, "blocks.json", "failures.json"], checkout)
    return json.loads((checkout / "failures.json").read_text(encoding="utf-8"))


def is_run(item):
    return getattr(item, "originalname", "") == "test_blocks_run"


@pytest.mark.long
@pytest.mark.parametrize("page", PAGES, ids=name)
def test_blocks_run(failures, page):
    assert name(page) not in failures, failures[name(page)]


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_only_known_languages(page):
    """A block in another language would not be run."""
    fences = re.findall(r"^```(.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert set(fences[0::2]) <= {"bash", "python", "text", "yaml", "{toctree}", "{eval-rst}"} | {
        fence for fence in fences if fence.startswith("{include}")
    }
    assert set(fences[1::2]) <= {""}


def test_stand_ins_stand_in_for_something():
    found = [block for page in PAGES for block in blocks(page)]
    commands = {command for _, language, code in found if language == "bash" for command in code}
    assert set(CHEAPER) <= commands
    code = "".join(code for _, language, code in found if language == "python")
    assert all(part in code for part in CHEAPER_PYTHON)


def test_readme_is_short():
    assert (ROOT / "README.md").read_text(encoding="utf-8").count("\n") <= 180


def test_files_that_pages_name_exist():
    named = {
        match
        for page in [*PAGES, ROOT / "CONTRIBUTING.md"]
        for match in re.findall(
            r"\b(?:benchmarks|scripts|tests|configs)/[\w/.]+\.(?:py|json|md|yaml)\b",
            page.read_text(encoding="utf-8"),
        )
    }
    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []
    assert len(named) > 10


def test_images_are_used():
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    images = sorted((ROOT / "docs" / "images").iterdir())
    assert [path.name for path in images if path.name not in text] == []
    assert sum(path.stat().st_size for path in images) < 300_000


# Runs notebooks in one kernel, each without the names of the one before; what went wrong, as JSON.
NOTEBOOK_RUNNER = """
import json, sys

import nbclient, nbformat

joined, begins = nbformat.v4.new_notebook(), {}
for path in sys.argv[2:]:
    begins[len(joined.cells)] = path
    joined.cells.append(nbformat.v4.new_code_cell("%reset -f"))
    joined.cells.extend(nbformat.read(path, 4).cells)
nbclient.NotebookClient(joined, kernel_name="python3", allow_errors=True).execute()
failures = {}
for number, cell in enumerate(joined.cells):
    path = begins.get(number, path)
    for output in cell.get("outputs", ()):
        if output.output_type == "error":
            failures.setdefault(path, "\\n".join(output.traceback))
with open(sys.argv[1], "w") as file:
    json.dump(failures, file)
"""


@pytest.fixture(scope="module")
def notebook_failures(tmp_path_factory):
    """What went wrong in the notebooks, by file."""
    folder = tmp_path_factory.mktemp("notebooks")
    given = ["failures.json", *map(str, NOTEBOOKS)]
    run([sys.executable, "-c", NOTEBOOK_RUNNER, *given], folder)
    return json.loads((folder / "failures.json").read_text(encoding="utf-8"))


@pytest.mark.long
@needs("nbclient", "ipykernel")
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=name)
def test_notebooks_run(notebook, notebook_failures):
    assert str(notebook) not in notebook_failures, notebook_failures[str(notebook)]


def test_notebooks_are_small():
    assert len(NOTEBOOKS) == 5
    assert sum(path.stat().st_size for path in NOTEBOOKS) < 300_000


@pytest.mark.long
@needs("sphinx", "myst_nb", "furo")
def test_site(tmp_path):
    """It builds without a warning, and its reference has every public name."""
    flags = ["--fail-on-warning", "--keep-going", "--fresh-env", "--quiet"]
    run([sys.executable, "-m", "sphinx", *flags, str(ROOT / "docs"), str(tmp_path / "site")], ROOT)
    from sphinx.util.inventory import InventoryFile

    with (tmp_path / "site" / "objects.inv").open("rb") as file:
        objects = InventoryFile.load(file, "", posixpath.join)
    described = {found for kind, names in objects.items() if kind[:3] == "py:" for found in names}
    for package in ("robustcls", "anomaly"):
        rooms = pkgutil.walk_packages([str(ROOT / package)], f"{package}.")
        for module in (package, *(room.name for room in rooms if room.ispkg)):
            names = getattr(importlib.import_module(module), "__all__", ())
            missing = {f"{module}.{public}" for public in names} - described
            assert missing == set()
