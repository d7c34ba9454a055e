"""Small synthetic videos and images, made on the fly with OpenCV and a little surgery on MP4 boxes."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
_CELLS = 8


def numbered_picture(number: int, size_wh: tuple[int, int] = (320, 240)) -> Image:
    """(H, W, 3) uint8 RGB: `number` (0..255) as eight black or white cells along the top, red left, blue right."""
    w, h = size_wh
    picture = np.zeros((h, w, 3), np.uint8)
    picture[:, : w // 2] = (200, 30, 30)
    picture[:, w // 2 :] = (30, 30, 200)
    for bit in range(_CELLS):
        picture[: h // 4, bit * w // _CELLS : (bit + 1) * w // _CELLS] = 255 if number >> bit & 1 else 0
    return picture


def number_in(picture: Image) -> int:
    """The number that `numbered_picture` has drawn, through any lossy codec."""
    h, w = picture.shape[:2]
    return sum(1 << bit for bit in range(_CELLS) if picture[h // 8, (2 * bit + 1) * w // (2 * _CELLS)].mean() > 128)


def write_video(
    path: Path, count: int = 10, *, size_wh: tuple[int, int] = (320, 240), fps: float = 30.0, codec: str = "mp4v"
) -> Path:
    """`count` numbered pictures as a colour video."""
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*codec), fps, size_wh)
    assert writer.isOpened(), f"OpenCV cannot write {codec} into {path.suffix}"
    for number in range(count):
        writer.write(cv2.cvtColor(numbered_picture(number, size_wh), cv2.COLOR_RGB2BGR))
    writer.release()
    return path


def write_grey_video(path: Path, levels: Sequence[int], *, bits: int = 8) -> Path:
    """One grey 160x120 picture a level (0..255), lossless, stored with 8 or 16 bits."""
    depth = cv2.CV_16U if bits == 16 else cv2.CV_8U
    parameters = [cv2.VIDEOWRITER_PROP_DEPTH, depth, cv2.VIDEOWRITER_PROP_IS_COLOR, 0]
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"FFV1"), 25.0, (160, 120), parameters)
    assert writer.isOpened(), "OpenCV cannot write FFV1"
    for level in levels:
        writer.write(np.full((120, 160), level * (257 if bits == 16 else 1), np.uint16 if bits == 16 else np.uint8))
    writer.release()
    return path


def rotate_in_metadata(path: Path, degrees: int) -> Path:
    """Gives an MP4 the display matrix that phones write: to be shown turned clockwise by `degrees`."""
    one = 1 << 16
    c, s = {0: (one, 0), 90: (0, one), 180: (-one, 0), 270: (0, -one)}[degrees]
    data = bytearray(path.read_bytes())
    # tkhd: type, version and flags, times, id, reserved, duration, reserved 8, layer .. reserved 8, matrix
    start = data.index(b"tkhd") + 4 + 4 + 20 + 8 + 8
    data[start : start + 36] = struct.pack(">9i", c, s, 0, -s, c, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    return path


def retime(path: Path, durations: Sequence[int]) -> Path:
    """Gives frame i of an MP4 the duration `durations[i]` in its own time units: a variable frame rate."""
    data = bytearray(path.read_bytes())
    entries = b"".join(struct.pack(">2I", 1, duration) for duration in durations)
    table = b"stts" + struct.pack(">2I", 0, len(durations)) + entries
    at = data.index(b"stts") - 4
    growth = len(table) + 4 - struct.unpack(">I", data[at : at + 4])[0]
    assert data.index(b"mdat") < data.index(b"moov"), "growing a header before the data would move the data"
    data[at : at + len(table) + 4 - growth] = struct.pack(">I", len(table) + 4) + table
    for parent in (b"moov", b"trak", b"mdia", b"minf", b"stbl"):
        place = data.index(parent) - 4
        size = struct.unpack(">I", data[place : place + 4])[0]
        data[place : place + 4] = struct.pack(">I", size + growth)
    # the edit list would cut the film at its old length
    edits = data.find(b"edts")
    if edits >= 0:
        data[edits : edits + 4] = b"free"
    path.write_bytes(data)
    return path


def damage(path: Path, start: float, stop: float) -> Path:
    """Overwrites a part of a file, given as fractions of its length, with noise."""
    data = bytearray(path.read_bytes())
    a, b = int(len(data) * start), int(len(data) * stop)
    data[a:b] = np.random.default_rng(0).integers(0, 256, b - a, dtype=np.uint8).tobytes()
    path.write_bytes(data)
    return path
