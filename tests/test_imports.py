"""Imports point one way (DESIGN: engines and the cache know the records only, stages do not know engines)."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
KERNEL = {"pipeline.types", "pipeline.frames", "pipeline.body"}
#: What bridges know: the wire, its records and its files, helpers that know nothing of stages, and tables of theirs.
WIRE = KERNEL | {
    f"pipeline.{name}"
    for name in (
        "console", "control", "curve", "limited_log", "mcap_file", "messages", "names", "publisher", "recorder",
        "schema", "subscriber", "viewer_link",
        "contact.POINTS", "contact.ABOVE_SOLE_M", "smoothing.LEVELS",
    )
}  # fmt: skip
MAY = {
    "engines": KERNEL | {"engines"},
    "calibration_cache": KERNEL | {"calibration_cache"},
    "pipeline": {"pipeline"},
    "bridges": WIRE | {"bridges"},
}
OURS = (
    "pipeline", "engines", "calibration_cache", "bridges", "training", "benchmarks", "tests", "run_stream",
    "composition",
)  # fmt: skip
#: What every installation of the stream has.
COMMON = {"numpy", "scipy", "zmq", "msgspec", "cv2", "yaml"}
#: What a program in bridges/ needs besides, to start at all.
NEEDS = {"play": {"mcap", "zstandard"}}
BRIDGES = [file for file in sorted(ROOT.glob("bridges/*.py")) if "\ndef main(" in file.read_text()]


def imported(file: Path, body: list[ast.stmt]) -> Iterator[str]:
    """What statements import: `module`, or `module.name` for each name that is taken from one."""
    for node in (n for statement in body for n in ast.walk(statement)):
        if isinstance(node, ast.Import):
            yield from (a.name for a in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{file.name} imports {node.module} relatively"
            yield from (f"{node.module}.{a.name}" for a in node.names)


def at_start(file: Path) -> set[str]:
    """What is imported when `file` is."""
    tree = ast.parse(file.read_text())
    return set(imported(file, [s for s in tree.body if not isinstance(s, ast.FunctionDef | ast.ClassDef | ast.If)]))


def foreign_at_start(file: Path, seen: set[Path]) -> set[str]:
    """Top-level names of the packages that importing `file` brings in, over all modules of this project."""
    found: set[str] = set()
    for name in at_start(file):
        top = name.split(".")[0]
        if top not in OURS:
            found |= set() if top in sys.stdlib_module_names else {top}
            continue
        path = ROOT.joinpath(*name.split("."))
        for inner in (path.with_suffix(".py"), path.parent.with_suffix(".py"), path / "__init__.py"):
            if inner.exists() and inner not in seen:
                seen.add(inner)
                found |= foreign_at_start(inner, seen)
    return found


@pytest.mark.parametrize("file", [f for d in MAY for f in sorted((ROOT / d).rglob("*.py"))], ids=str)
def test_imports_point_one_way(file):
    package = file.relative_to(ROOT).parts[0]
    for name in imported(file, ast.parse(file.read_text()).body):
        if name.split(".")[0] in OURS:
            assert any(name == ok or name.startswith(ok + ".") for ok in MAY[package]), f"{file.name} imports {name}"


@pytest.mark.parametrize("file", BRIDGES, ids=[f.stem for f in BRIDGES])
def test_a_bridge_starts_without_what_other_bridges_need(file):
    assert foreign_at_start(file, set()) <= COMMON | NEEDS.get(file.stem, set())


def test_what_bridges_need_is_still_needed():
    assert set(NEEDS) <= {file.stem for file in BRIDGES}
    for name, packages in NEEDS.items():
        assert packages <= foreign_at_start(ROOT / "bridges" / f"{name}.py", set()), f"{name} no longer needs this"
