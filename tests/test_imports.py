"""Imports point one way (DESIGN: engines and the cache know the records only, stages do not know engines)."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
KERNEL = {"pipeline.types", "pipeline.frames", "pipeline.body"}
MAY = {"engines": KERNEL | {"engines"}, "calibration_cache": KERNEL | {"calibration_cache"}, "pipeline": {"pipeline"}}
OURS = ("pipeline", "engines", "calibration_cache", "bridges", "training", "benchmarks", "tests", "run_stream")


@pytest.mark.parametrize("file", [f for d in MAY for f in sorted((ROOT / d).rglob("*.py"))], ids=str)
def test_imports_point_one_way(file):
    package = file.relative_to(ROOT).parts[0]
    for node in ast.walk(ast.parse(file.read_text())):
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        names += [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
        for name in (n for n in names if n.split(".")[0] in OURS):
            assert any(name == ok or name.startswith(ok + ".") for ok in MAY[package]), f"{file.name} imports {name}"
