"""The demo clips through the whole program, run once for every test that looks at what came out."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.program import DemoRun, demo_run


@pytest.fixture(scope="session")
def demo_one(tmp_path_factory: pytest.TempPathFactory) -> DemoRun:
    """`run_stream.py --source demo` with everything that can be written, and somebody who listens."""
    folder: Path = tmp_path_factory.mktemp("demo_one")
    return demo_run(folder, "demo", "--print", "--overlay", str(folder / "overlay.mp4"))


@pytest.fixture(scope="session")
def demo_two(tmp_path_factory: pytest.TempPathFactory) -> DemoRun:
    """`run_stream.py --source demo:two`."""
    return demo_run(tmp_path_factory.mktemp("demo_two"), "demo:two")
