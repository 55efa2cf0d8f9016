"""Imports point one way: towards the ground floor, and never in a circle."""

import ast
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# From the ground up. A room imports rooms on floors below its own and its own sub-rooms; the
# longest name that fits a module decides its floor. CONTRIBUTING.md shows the same order.
FLOORS = (
    (
        "anomaly._moved",
        "robustcls._moved",
        "robustcls._notebook",
        "robustcls._progress",
        "robustcls._quiet",
        "robustcls._stopping",
        "robustcls._validation",
    ),
    (
        "robustcls._registry",
        "robustcls._settings",
        "robustcls._trackers",
        "robustcls._user_code",
    ),
    ("robustcls._locks", "robustcls._memory", "robustcls.files"),
    ("robustcls.runs",),
    ("robustcls.distribution",),
    ("robustcls.data", "robustcls.reports"),
    ("robustcls.plots",),
    ("robustcls.models",),
    ("robustcls", "robustcls.classifiers"),
    ("robustcls.attacks", "robustcls.bounds"),
    ("robustcls.training",),
    ("robustcls.callbacks", "robustcls.evaluation"),
    ("robustcls.familiarity",),
    ("robustcls.explanation",),
    ("robustcls.serving",),
    ("robustcls._command_line",),
    ("robustcls.commands",),
    ("robustcls.cli",),
    ("robustcls.__main__",),
    ("anomaly",),
    ("anomaly.localization", "anomaly.video"),
    ("anomaly.detection",),
    (
        "anomaly.autoencoder",
        "anomaly.deep_svdd",
        "anomaly.ebgan",
        "anomaly.memae",
        "anomaly.ognet",
        "anomaly.one_class_svm",
        "anomaly.patch_memory",
    ),
    ("anomaly.serving", "anomaly.reports"),
    ("anomaly.experiments",),
    ("anomaly.commands",),
    ("anomaly.cli",),
    ("anomaly.__main__",),
)
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}


def modules():
    """Every module of both packages: its dotted name and its file."""
    found = {}
    for package in ("robustcls", "anomaly"):
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def imports(name, path):
    """The modules of ours that a module imports, wherever in it the import stands."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{name}: imports are absolute"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                found.add(full if full in MODULES else node.module)
    ours = {target for target in found if target.split(".")[0] in ("robustcls", "anomaly")}
    return ours - {name}


IMPORTS = {name: imports(name, path) for name, path in MODULES.items()}


def room(module):
    while module not in FLOOR:
        module = module.rpartition(".")[0]
    return module


def circles(arrows):
    """The strongly connected parts of more than one node, by Tarjan's algorithm."""
    index, low, stack, found = {}, {}, [], []

    def visit(node):
        index[node] = low[node] = len(index)
        stack.append(node)
        for target in sorted(arrows.get(node, ())):
            if target not in index:
                visit(target)
                low[node] = min(low[node], low[target])
            elif target in stack:
                low[node] = min(low[node], index[target])
        if low[node] == index[node]:
            part = []
            while not part or part[-1] != node:
                part.append(stack.pop())
            if len(part) > 1:
                found.append(sorted(part))

    for node in sorted(arrows):
        if node not in index:
            visit(node)
    return found


def test_circles_are_found():
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": set()}) == [["a", "b", "c"]]
    assert circles({"a": {"b"}, "b": {"c"}, "c": set()}) == []


def test_every_import_is_of_a_module_that_is_there():
    missing = {
        (name, target) for name, targets in IMPORTS.items() for target in targets - MODULES.keys()
    }
    assert missing == set()


def test_every_room_has_a_floor():
    """A new room is put on its floor by hand, not by the package that holds it."""
    rooms = {".".join(name.split(".")[:2]) for name in MODULES} - {"robustcls", "anomaly"}
    assert rooms - FLOOR.keys() == set()


@pytest.mark.parametrize("name", MODULES)
def test_no_arrow_climbs(name):
    own = room(name)
    climbing = {
        target
        for target in IMPORTS[name]
        if room(target) != own and FLOOR[room(target)] >= FLOOR[own]
    }
    assert climbing == set()


def test_no_circle_of_modules():
    """A package's `__init__` names what is within, so it is no step of a circle."""
    packages = {name for name, path in MODULES.items() if path.name == "__init__.py"}
    arrows = {name: IMPORTS[name] - packages for name in MODULES.keys() - packages}
    assert circles(arrows) == []


@pytest.mark.parametrize("package", ["evaluation", "explanation", "serving"])
def test_rooms_of_a_package_import_each_other_one_way(package):
    """The modules at the top of a package count as one room beside its folders."""
    inside = {name for name in MODULES if name.startswith(f"robustcls.{package}.")}
    rooms = {name: name.split(".")[2] if name.count(".") > 2 else "top" for name in inside}
    arrows = {room: set() for room in rooms.values()}
    for name in inside:
        if MODULES[name].name != "__init__.py":
            arrows[rooms[name]] |= {rooms[t] for t in IMPORTS[name] & inside} - {rooms[name]}
    assert circles(arrows) == []


def test_robustcls_does_not_know_anomaly():
    knowing = {
        name
        for name, targets in IMPORTS.items()
        if name.startswith("robustcls") and any(t.startswith("anomaly") for t in targets)
    }
    assert knowing == set()


@pytest.mark.parametrize("name", MODULES)
def test_no_module_is_longer_than_a_reader_keeps_in_mind(name):
    assert len(MODULES[name].read_text(encoding="utf-8").splitlines()) <= 300


def test_no_folder_holds_more_modules_than_a_reader_takes_in():
    folders = Counter(path.parent for path in MODULES.values() if path.name != "__init__.py")
    assert {folder: count for folder, count in folders.items() if count > 16} == {}
