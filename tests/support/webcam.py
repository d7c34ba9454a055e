"""Runs a Python program that sees a webcam which is not there: `fake_webcam.c` under LD_PRELOAD."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from tests.support.videos import Image

SIZE_WH = (640, 480)
_SOURCE = Path(__file__).with_name("fake_webcam.c")


def why_no_webcam() -> str:
    """The reason why no fake webcam can be had here; empty when one can."""
    if sys.platform != "linux":
        return "the fake webcam is a Linux V4L2 device"
    return "" if shutil.which("cc") else "needs a C compiler: apt-get install gcc libc6-dev"


def build_webcam(folder: Path) -> Path:
    """Compiles the fake webcam into `folder`."""
    library = folder / "fake_webcam.so"
    command = ["cc", "-shared", "-fPIC", "-O1", "-o", str(library), str(_SOURCE), "-ldl", "-lpthread"]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    return library


def write_yuyv(path: Path, pictures: Sequence[Image]) -> Path:
    """Pictures, (480, 640, 3) uint8 RGB each, in the form that FAKE_WEBCAM_FRAMES takes."""
    with path.open("wb") as file:
        for picture in pictures:
            file.write(np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2YUV_YUY2)).tobytes())
    return path


def webcam_environment(library: Path, **settings: Path | str) -> dict[str, str]:
    """The environment of a program that is to see the webcam; `frames=...` sets FAKE_WEBCAM_FRAMES and so on."""
    return (
        os.environ
        | {"LD_PRELOAD": str(library), "PYTHONPATH": str(Path(__file__).parents[2])}
        | {f"FAKE_WEBCAM_{name.upper()}": str(value) for name, value in settings.items()}
    )
