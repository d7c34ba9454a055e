"""FBX through Blender, which is the only free writer of it: the body of `glb.py`, one person a file, y up.

Blender is taken from the package `bpy` of this Python, or else the program `blender` on the PATH; it runs in a process
of its own.
"""

from __future__ import annotations

import importlib.util
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
    if importlib.util.find_spec("bpy") is not None:
        return [sys.executable, str(_SCRIPT), "--"]
    if blender := shutil.which("blender"):
        return [blender, "--background", "--factory-startup", "--python-exit-code", "1", "--python", str(_SCRIPT), "--"]
    raise ImportError(
        "FBX is written by Blender, which was not found: install Blender so that `blender` starts it, or type "
        "pip install bpy (Blender 5.0 as a package is for Python 3.11); or write .glb, which Blender imports."
    )


def write(path: Path, scene: Scene) -> None:
    """Writes the scene's only take. Raises ImportError without Blender, OSError when Blender fails."""
    command = blender_command()
    with tempfile.TemporaryDirectory() as folder:
        body = Path(folder) / "body.glb"
        glb.write(body, scene)
        numbers = [repr(scene.fps), str(scene.count)]
        done = subprocess.run([*command, str(body), str(path), *numbers], capture_output=True, text=True, check=False)
    if done.returncode or not path.exists():
        said = (done.stderr.strip() or done.stdout.strip() or "nothing").splitlines()[-1]
        raise OSError(f"Blender did not write {path}, its last words: {said}")
