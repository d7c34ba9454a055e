"""Draws a FrameResult on its picture: skeletons, boxes, horizon, floor grid and a panel of text. Pure.

Everything is placed by the calibration's K and distortion alone, so a wrong calibration is seen at once: the grid
does not lie on the floor, or the horizon is not where distant eyes at the camera's height are.
"""

from __future__ import annotations

import math
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.drawing_geometry import clip_near, clip_to_picture, floor_grid, horizon_camera, pixels
from pipeline.frames import Array, pitch_roll_rad
from pipeline.types import JOINT_NAMES, JOINT_PARENTS, CalibrationStatus, CameraCalibration, FrameResult, Person

Image = NDArray[np.uint8]
Colour = tuple[int, int, int]

SHORTEST_SIDE_PX, LONGEST_SIDE_PX = 320, 3840

LEFT, RIGHT, MIDDLE = (255, 158, 74), (82, 176, 255), (236, 238, 242)
INK, PAPER, QUIET = (18, 20, 24), (246, 247, 249), (168, 174, 184)
HORIZON, FLOOR = (255, 221, 130), (214, 236, 255)
STATUS_COLOURS: dict[CalibrationStatus, Colour] = {
    CalibrationStatus.SUPPLIED: (126, 214, 160),
    CalibrationStatus.CALIBRATED: (126, 214, 160),
    CalibrationStatus.CALIBRATING: (255, 200, 90),
    CalibrationStatus.UNCALIBRATED: QUIET,
    CalibrationStatus.MOVED: (255, 120, 96),
}

_SHIFT = 4
#: Joint numbers (23, 2) of each bone's ends: parent, child.
BONES = np.array([[JOINT_PARENTS[j], j] for j in range(1, len(JOINT_NAMES))])


def drawing_size(size_wh: tuple[int, int]) -> tuple[int, int]:
    """Width and height of what `draw` returns for pictures of `size_wh`.

    Small pictures are enlarged by a whole factor until text can be read in them, huge ones reduced to what players
    of H.264 take; all others stay.
    """
    short, long = min(size_wh), max(size_wh)
    if long > LONGEST_SIDE_PX:
        scale = min(1.0, max(LONGEST_SIDE_PX / long, 64.0 / short))
        return round(size_wh[0] * scale), round(size_wh[1] * scale)
    factor = max(1, min(math.ceil(SHORTEST_SIDE_PX / short), LONGEST_SIDE_PX // long))
    return size_wh[0] * factor, size_wh[1] * factor


def draw(image_rgb: Image, result: FrameResult, *, age_ms: float | None = None, fps: float | None = None) -> Image:
    """A new picture (H, W, 3) uint8 RGB of `drawing_size(result.size_wh)` with the result drawn on `image_rgb`.

    `image_rgb`  (H, W, 3) uint8 RGB, the picture of this result; it is left as it is
    `age_ms`     age of the pose when it was published, and
    `fps`        results a second: shown where given
    """
    size_wh = drawing_size(result.size_wh)
    enlarged = size_wh[0] > image_rgb.shape[1]
    resized = cv2.resize(image_rgb, size_wh, interpolation=cv2.INTER_CUBIC if enlarged else cv2.INTER_AREA)
    image = np.array(resized, dtype=np.uint8)
    calibration = result.calibration.for_size(size_wh)
    scale_xy = np.array(size_wh) / np.array(result.size_wh)
    unit = min(size_wh) / 720.0
    _draw_floor(image, calibration, unit)
    _draw_horizon(image, calibration, unit)
    far_first = sorted(result.people, key=lambda person: -person.camera.t_camera_root[2])
    _draw_shade(image, calibration, far_first, unit)
    for person in far_first:
        _draw_skeleton(image, calibration, person, unit)
        _draw_box(image, person, np.tile(scale_xy, 2), unit)
    _draw_panel(image, _panel_rows(result, age_ms, fps), STATUS_COLOURS[calibration.status], unit)
    return image


def _blend(image: Image, mask: NDArray[np.uint8], colour: Colour) -> None:
    """Mixes `colour` into `image` by `mask` / 255; only where the mask is not 0, which is a few pixels."""
    found = cv2.findNonZero(mask)
    if found is not None:
        x, y = found.reshape(-1, 2).T
        where = y * mask.shape[1] + x
        weight = mask.reshape(-1).take(where)[:, None].astype(np.uint16)
        flat = image.reshape(-1, 3)
        mixed = flat.take(where, axis=0) * (255 - weight) + np.array(colour, np.uint16) * weight
        flat[where] = (mixed + 127) // 255


def _stroke(image: Image, segments_px: Array, colour: int | Colour, width: int) -> None:
    """Draws segments (N, 2, 2) into a mask or a picture, antialiased at a sixteenth of a pixel."""
    inside = clip_to_picture(segments_px, (image.shape[1], image.shape[0]))
    if len(inside):
        cv2.polylines(image, list(_fixed(inside)), False, colour, width, cv2.LINE_AA, _SHIFT)


def _fixed(points_px: Array) -> NDArray[np.int32]:
    return np.round(points_px * (1 << _SHIFT)).astype(np.int32)


def _dashes(segment_px: Array, dash_px: float) -> Array:
    """A segment (2, 2) as dashes (N, 2, 2) with gaps of two thirds of a dash."""
    length = float(np.linalg.norm(segment_px[1] - segment_px[0]))
    if not 0 < length < 1e5:
        return segment_px[None]
    starts = np.arange(0.0, length, dash_px * 5 / 3) / length
    t = np.stack([starts, np.minimum(starts + dash_px / length, 1.0)], axis=1)
    return segment_px[0] + t[..., None] * (segment_px[1] - segment_px[0])


def _draw_floor(image: Image, calibration: CameraCalibration, unit: float) -> None:
    if calibration.camera_height_m is None:
        return
    pieces, strengths, _ = floor_grid(calibration)
    segments = pixels(clip_near(pieces), calibration)
    mask = np.zeros(image.shape[:2], np.uint8)
    width = max(1, round(unit))
    levels = np.ceil(strengths * 8)
    for level in range(1, 9):
        _stroke(mask, segments[levels == level], 16 * level, width)
    _blend(image, mask, FLOOR)


def _draw_horizon(image: Image, calibration: CameraCalibration, unit: float) -> None:
    """Dashed while gravity is not known to 10 degrees."""
    directions = horizon_camera(calibration)
    if directions is None:
        return
    points = pixels(directions, calibration)
    segments = clip_to_picture(np.stack([points[:-1], points[1:]], axis=1), (image.shape[1], image.shape[0]))
    if not len(segments):
        return
    if calibration.gravity_spread_rad > np.radians(10.0):
        segments = np.concatenate([_dashes(segment, 14 * unit) for segment in segments])
    _stroke(image, segments, HORIZON, max(1, round(1.2 * unit)))


def _draw_shade(image: Image, calibration: CameraCalibration, people: list[Person], unit: float) -> None:
    """A dark rim under the skeletons of those who are seen, so that light lines read on a light ground."""
    mask = np.zeros(image.shape[:2], np.uint8)
    for person in people:
        if not person.predicted:
            segments = pixels(clip_near(person.camera.joints_camera_m[BONES]), calibration)
            _stroke(mask, segments, 150, _bone_width(unit) + max(2, round(2 * unit)))
    _blend(image, mask, INK)


def _bone_width(unit: float, predicted: bool = False) -> int:
    return max(1, round((1.6 if predicted else 2.4) * unit))


def _draw_skeleton(image: Image, calibration: CameraCalibration, person: Person, unit: float) -> None:
    """Far bones first; predicted people are dashed, joints of little confidence thin and without a dot."""
    joints, confidence = person.camera.joints_camera_m, person.camera.confidence
    segments = pixels(clip_near(joints[BONES]), calibration)
    dots = _fixed(np.clip(np.nan_to_num(pixels(joints, calibration), nan=-1e5), -1e5, 1e5))
    width = _bone_width(unit, person.predicted)
    for bone in np.argsort(-joints[BONES][..., 2].mean(axis=1)):
        child = BONES[bone, 1]
        sure, colour = confidence[child] >= 0.3, _side_colour(child)
        pieces = _dashes(segments[bone], 7 * unit) if person.predicted else segments[bone][None]
        _stroke(image, pieces, colour, width if sure else max(1, width // 2))
        if sure and not person.predicted:
            radius = round((1.1 * width + 0.4) * (1 << _SHIFT))
            cv2.circle(image, dots[child].tolist(), radius, colour, -1, cv2.LINE_AA, _SHIFT)


def _side_colour(joint: int) -> Colour:
    name = JOINT_NAMES[joint]
    return LEFT if name.startswith("left") else RIGHT if name.startswith("right") else MIDDLE


def _draw_box(image: Image, person: Person, scale_xyxy: Array, unit: float) -> None:
    """The corners of the box, and a label: id and distance, or that the person is predicted."""
    left, top, right, bottom = person.box_xyxy * scale_xyxy
    arm = float(np.clip(0.12 * min(right - left, bottom - top), 6 * unit, 28 * unit))
    corners = [(x, y, np.sign(cx - x), np.sign(cy - y)) for x, y, cx, cy in _corners(left, top, right, bottom)]
    segments = [[[x, y], [x + sx * arm, y]] for x, y, sx, _ in corners]
    segments += [[[x, y], [x, y + sy * arm]] for x, y, _, sy in corners]
    _stroke(image, np.array(segments), QUIET if person.predicted else PAPER, max(1, round(1.4 * unit)))
    text = "predicted" if person.predicted else f"{person.camera.t_camera_root[2]:.1f} m"
    _draw_label(image, f"{person.track_id}", text, (left, top), unit)


def _corners(left: float, top: float, right: float, bottom: float) -> list[tuple[float, float, float, float]]:
    centre = ((left + right) / 2, (top + bottom) / 2)
    return [(x, y, *centre) for x in (left, right) for y in (top, bottom)]


def _draw_label(image: Image, strong: str, text: str, corner: tuple[float, float], unit: float) -> None:
    size = text_px(unit)
    pad, gap = round(0.45 * size), round(0.5 * size)
    strong_width, width = text_width(strong, size, 700), text_width(text, size)
    w, h = strong_width + gap + width + 2 * pad, round(1.5 * size)
    x = int(np.clip(corner[0], 0, max(0, image.shape[1] - w)))
    y = int(np.clip(corner[1] - h - round(3 * unit), 0, max(0, image.shape[0] - h)))
    if w > image.shape[1] or h > image.shape[0]:
        return
    _plate(image, x, y, w, h, 0.62)
    baseline = y + round(1.08 * size)
    _write(image, strong, (x + pad, baseline), size, PAPER, 700)
    _write(image, text, (x + pad + strong_width + gap, baseline), size, QUIET)


def _panel_rows(result: FrameResult, age_ms: float | None, fps: float | None) -> list[tuple[str, str]]:
    c = result.calibration
    pitch, roll = np.degrees(pitch_roll_rad(c.up_camera))
    height = "unknown"
    if c.camera_height_m is not None:
        height = f"{c.camera_height_m:.2f}" + (f" ± {c.height_spread_m:.2f} m" if c.height_spread_m else " m")
    focal = f"{c.K[0, 0]:.0f} px" + (f" ± {100 * c.focal_spread:.1f} %" if c.focal_spread > 0 else "")
    rows = [
        ("camera", str(c.status)),
        ("focal", focal),
        ("pitch", f"{pitch:.1f}°".replace("-", "−")),
        ("roll", f"{roll:.1f}°".replace("-", "−")),
        ("height", height),
        ("people", str(len(result.people))),
    ]
    rows += [] if age_ms is None else [("age", f"{age_ms:.0f} ms")]
    return rows if fps is None else [*rows, ("rate", f"{fps:.1f} fps")]


def _draw_panel(image: Image, rows: list[tuple[str, str]], accent: Colour, unit: float) -> None:
    """Left out where it would cover the picture."""
    size = text_px(unit)
    line, pad, gap = round(1.42 * size), round(0.8 * size), round(0.9 * size)
    names = max(text_width(name, size) for name, _ in rows)
    w = names + gap + max(text_width(value, size, 500) for _, value in rows) + 2 * pad
    h = line * len(rows) + round(1.2 * pad)
    margin = round(14 * unit)
    if w + 2 * margin > image.shape[1] or h + 2 * margin > image.shape[0]:
        return
    _plate(image, margin, margin, w, h, 0.58)
    cv2.rectangle(image, (margin, margin), (margin + max(1, round(2.5 * unit)), margin + h - 1), accent, -1)
    for i, (name, value) in enumerate(rows):
        baseline = margin + round(0.6 * pad) + line * i + round(1.02 * size)
        _write(image, name, (margin + pad, baseline), size, QUIET)
        _write(image, value, (margin + pad + names + gap, baseline), size, accent if i == 0 else PAPER, 500)


def _plate(image: Image, x: int, y: int, w: int, h: int, strength: float) -> None:
    part = image[y : y + h, x : x + w]
    part[:] = cv2.addWeighted(part, 1.0 - strength, np.full_like(part, INK), strength, 0.0)


@lru_cache(maxsize=1)
def _font() -> cv2.FontFace:
    return cv2.FontFace("sans")


def text_px(unit: float) -> int:
    """Height of the text in pixels for a picture whose shorter side is 720 `unit`."""
    return max(10, round(15 * unit))


def text_width(text: str, size: int, weight: int = 400) -> int:
    """Pixels that `text` is wide."""
    return int(cv2.getTextSize((0, 0), text, (0, 0), _font(), size, weight)[2])


def _write(image: Image, text: str, at: tuple[int, int], size: int, colour: Colour, weight: int = 400) -> None:
    cv2.putText(image, text, at, colour, _font(), size, weight)
