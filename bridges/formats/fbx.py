"""FBX through Blender, which is the only free writer of it: the body of `glb.py`, one person a file, y up.

Blender is the Python with `bpy` that the environment variable BLENDER_PYTHON names, or the program `blender` on the
PATH, or `bpy` beside this program; it runs in a process of its own.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from bridges.formats import glb
from bridges.motion import Scene

_SCRIPT = Path(__file__).with_name("blender_fbx.py")


def blender_command() -> list[str]:
    """How to start Blender with a script of ours, up to its arguments; ImportError when there is no Blender."""
    if python := os.environ.get("BLENDER_PYTHON"):
        return [python, "-P", str(_SCRIPT), "--"]
    if blender := shutil.which("blender"):
        return [blender, "--background", "--factory-startup", "--python-exit-code", "1", "--python", str(_SCRIPT), "--"]
    if importlib.util.find_spec("bpy") is not None:
        return [sys.executable, "-P", str(_SCRIPT), "--"]
    raise ImportError(
        "FBX is written by Blender, which was not found: install it so that `blender` starts it, or give it a Python "
        "of its own (python3.11 -m venv blender && blender/bin/pip install bpy==5.0.1; its numpy is older than the "
        "stream's) and set BLENDER_PYTHON=blender/bin/python; or write .glb, which Blender imports."
    )


def write(path: Path, scene: Scene) -> None:
    """Writes the scene's only take. Raises ImportError without Blender, OSError when Blender fails."""
    command = blender_command()
    with tempfile.TemporaryDirectory() as folder:
        body = Path(folder) / "body.glb"
        glb.write(body, scene)
        arguments = [str(body), str(path.resolve()), repr(scene.fps), str(scene.count)]
        try:
            done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)
        except OSError as error:
            raise OSError(f"Blender cannot be started as {command[0]}: {error.strerror}.") from error
    if done.returncode or not path.exists():
        lines = f"{done.stdout}\n{done.stderr}".strip().splitlines() or ["nothing"]
        said = next((line for line in reversed(lines) if "Error" in line), lines[-1])
        raise OSError(f"Blender did not write {path}, it said: {said.strip()}")
