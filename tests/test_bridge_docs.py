"""docs/bridges.md keeps up with the code: every bridge, every client, every package, and links that lead somewhere."""

from __future__ import annotations

import re
import shlex
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

from benchmarks import bridge_table

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "bridges.md").read_text()
CLIENTS = [file for file in sorted((ROOT / "docs" / "clients").iterdir()) if file.is_file()]
PROGRAMS = [file.stem for file in sorted((ROOT / "bridges").glob("*.py")) if "\ndef main(" in file.read_text()]


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_bridge_is_in_the_page(name: str) -> None:
    assert f"python -m bridges.{name}" in PAGE


@pytest.mark.parametrize("file", CLIENTS, ids=lambda file: file.name)
def test_every_client_is_linked_and_says_where_its_axes_end(file: Path) -> None:
    assert f"(clients/{file.name}" in PAGE
    assert re.search(r"\b[Aa]xes\b|x forward", file.read_text())


@pytest.mark.parametrize("file", ["docs/bridges.md", "docs/clients/unreal.md", "docs/wire.md", "README.md"])
def test_links_lead_to_files_that_are_there(file: str) -> None:
    page = ROOT / file
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text())
    for link in links:
        assert link.startswith("http") or (page.parent / link).exists(), link


@pytest.mark.parametrize("page", ["docs/bridges.md", "docs/clients/unreal.md"])
def test_commands_are_ones_that_their_programs_take(page: str) -> None:
    commands = re.findall(r"python -m bridges\.([a-z_]+)\b([^`,\n;|]*)", (ROOT / page).read_text())
    for name, rest in commands:
        module = import_module(f"bridges.{name}")
        arguments = shlex.split(rest.partition("#")[0])
        if hasattr(module, "parser") and arguments:
            module.parser().parse_args(arguments)


def test_every_package_of_an_extra_is_named() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    pinned = (ROOT / "requirements-bridges.txt").read_text()
    for packages in extras.values():
        for package in packages:
            assert f"`{package.partition('==')[0]}`" in PAGE
            assert package in pinned


def test_the_measured_table_has_every_bridge_that_is_measured(tmp_path: Path) -> None:
    table = PAGE.partition(bridge_table.START)[2].partition(bridge_table.END)[0]
    for name in (*bridge_table.DATAGRAMS, "sonic", "record"):
        assert f"bridges.{name}" in table
    (tmp_path / "no.md").write_text("no marks")
    assert bridge_table.main(["--write", str(tmp_path / "no.md")]) == 2
