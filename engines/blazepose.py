"""MediaPipe's pose pipeline around its two networks: regions, crops, anchors, heatmaps, landmarks. Typed in and out.

The steps and constants are those of MediaPipe's PoseLandmarker (mediapipe/tasks/cc/vision/pose_detector and
pose_landmarker, calculators ssd_anchors, tensors_to_detections, non_max_suppression, alignment_points_to_rects,
refine_landmarks_from_heatmap, landmark_projection); `engines.mediapipe_reference` is MediaPipe itself, and a test
keeps the two equal.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.blazepose_decode import CROP_SIDE, DETECTOR_SIDE, anchors, clarity, refined, weighted_suppression
from engines.models import DETECTOR_ONNX, LANDMARKS_ONNX, model_path
from engines.runtime import Engine, open_engine
from pipeline.types import Landmarks

Image = NDArray[np.uint8]

_LANDMARKS, _ALL_POINTS = 33, 39
#: Two auxiliary landmarks: the hips' middle, and a point as far from it as the person reaches.
_CENTER, _REACH = 33, 34
_REGION_SCALE = 1.25
#: Windows of a sweep: side in shorter sides of the picture, and how far they hang over its left and right edge, in
#: sides. Somebody at the edge is found in a window that has him in its middle.
_TILES = ((1.0, 0.0), (0.6, 0.35))
#: Along one side of a picture, however long and thin it is.
_MAX_TILES = 12
#: Bilinear sampling sees two pixels a step: where the detector takes longer ones, the image is averaged first.
_MAX_STEP = 12.0


@dataclass(frozen=True)
class Region:
    """A square in the image, turned: where a network looks.

    center_px  (u, v) image pixels
    size_px    side, image pixels
    angle_rad  from the image's u axis to the square's, positive toward v (clockwise on the screen)
    """

    center_px: tuple[float, float]
    size_px: float
    angle_rad: float = 0.0

    def A_image_crop(self, side: int) -> NDArray[np.float64]:
        """(2, 3) affine map: image pixel = A @ (crop pixel, 1) for a crop of side x side pixels.

        As in MediaPipe, the crop's pixel (0, 0) is the square's corner itself: there is no half-pixel offset.
        """
        scale, (u, v) = self.size_px / side, self.center_px
        c, s, half = math.cos(self.angle_rad) * scale, math.sin(self.angle_rad) * scale, side / 2
        return np.array([[c, -s, u - (c - s) * half], [s, c, v - (s + c) * half]])


Found = tuple[Region, float]

_CROPPING: dict[str, int] = {"flags": cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, "borderMode": cv2.BORDER_REPLICATE}


class BlazePose:
    """MediaPipe's person detector and landmark network on two engines.

    `max_batch` people go through the landmark network at once; more are taken in turns.
    """

    def __init__(self, detector: Engine, landmarks: Engine, max_batch: int = 4) -> None:
        self._detector, self._landmarks, self._max_batch = detector, landmarks, max_batch
        self._anchors = anchors()
        self._crops = np.empty((max_batch, CROP_SIDE, CROP_SIDE, 3), np.uint8)
        self._window = np.empty((1, DETECTOR_SIDE, DETECTOR_SIDE, 3), np.uint8)

    @classmethod
    def open(
        cls,
        store: str | Path | None = None,
        device: str = "cpu",
        threads: int | None = None,
        max_batch: int = 4,
        backend: str = "auto",
    ) -> BlazePose:
        """Opens both networks of the model store and warms them for every batch size up to `max_batch`.

        Raises ModelError when the models are not there, and what `open_engine` raises.
        """
        detector = open_engine(model_path(DETECTOR_ONNX, store), device, backend, threads=threads)
        landmarks = open_engine(model_path(LANDMARKS_ONNX, store), device, backend, threads=threads)
        pose = cls(detector, landmarks, max_batch)
        detector.warm([1])
        landmarks.warm(range(1, max_batch + 1))
        pose.landmarks(np.zeros((CROP_SIDE, CROP_SIDE, 3), np.uint8), [Region((128.0, 128.0), 256.0)])
        return pose

    def detect(self, image: Image, threshold: float = 0.5, windows: Sequence[Region] | None = None) -> list[Found]:
        """Regions of the people in `image` (H, W, 3) uint8 RGB with their scores 0..1, the best first.

        The detector looks once into each of `windows` (None: the whole picture), which may reach out of the picture.
        Who is seen in several windows is there several times: `merge_regions` keeps the best, but the landmark
        network may do better with another.
        """
        if windows is None:
            windows = [whole_picture(image)]
        image, scale = _shrunk(image, min(w.size_px for w in windows)) if windows else (image, 1.0)
        found = [d for window in windows for d in self._detect_one(image, scale, window, threshold)]
        return sorted(found, key=lambda f: -f[1])

    def detect_tiled(self, image: Image, threshold: float = 0.5) -> list[Found]:
        """As `detect`, through every window of a sweep and merged: finds small people and groups, and takes longer."""
        return merge_regions(self.detect(image, threshold, self.windows((image.shape[1], image.shape[0]))))

    @staticmethod
    def window(center_px: tuple[float, float], size_px: float, angle_rad: float = 0.0) -> Region:
        """A square to look into, pixels."""
        return Region(center_px, size_px, angle_rad)

    @staticmethod
    def windows(size_wh: tuple[int, int]) -> list[Region]:
        """The windows of a whole sweep over a picture of that size: the whole of it, then overlapping squares."""
        width, height = size_wh
        squares = [Region((width / 2, height / 2), float(max(width, height)))]
        for fraction, overhang in _TILES:
            side = min(width, height) * fraction
            out = side * overhang
            squares += [Region((u, v), side) for v in _steps(height, side, 0.0) for u in _steps(width, side, out)]
        return squares

    def landmarks(self, image: Image, regions: Sequence[Region]) -> list[tuple[Landmarks, Region]]:
        """Landmarks of the person in each of `regions`, and the region to look in for the same person next.

        `image` is (H, W, 3) uint8 RGB. All regions go through the network in one batch (or several of `max_batch`).
        `Landmarks.score` is the network's own belief that there is a person, or less where the heatmaps are blurred:
        the network alone believes in bags and chairs, too.
        """
        image = np.ascontiguousarray(image)
        found: list[tuple[Landmarks, Region]] = []
        for start in range(0, len(regions), self._max_batch):
            found += self._landmarks_batch(image, regions[start : start + self._max_batch])
        return found

    def close(self) -> None:
        """Frees both engines."""
        self._detector.close()
        self._landmarks.close()

    def _detect_one(self, image: Image, scale: float, window: Region, threshold: float) -> list[Found]:
        """Detections in one window; `scale` is the size of a pixel of `image` in pixels of the picture."""
        u, v = (c / scale for c in window.center_px)
        maps = _window_maps(Region((u, v), window.size_px / scale))
        cv2.remap(image, *maps, cv2.INTER_LINEAR, dst=self._window[0], borderMode=cv2.BORDER_CONSTANT)
        outputs = self._detector({"image": self._window})
        logits = outputs["scores"][0, :, 0]
        kept = np.flatnonzero(logits >= math.log(threshold / (1 - threshold)))
        if not len(kept):
            return []
        scores = 1 / (1 + np.exp(-np.clip(logits[kept], -100, 100).astype(np.float64)))
        values = outputs["boxes"][0][kept].astype(np.float64) / DETECTOR_SIDE
        anchors = self._anchors[kept]
        centers, halves = values[:, :2] + anchors, values[:, 2:4] / 2
        points = values[:, 4:8].reshape(-1, 2, 2) + anchors[:, None]
        corner = np.subtract(window.center_px, window.size_px / 2)
        merged = weighted_suppression(np.hstack([centers - halves, centers + halves]), points, scores)
        return [(_region(*(p * window.size_px + corner)), score) for p, score in merged]

    def _landmarks_batch(self, image: Image, regions: Sequence[Region]) -> list[tuple[Landmarks, Region]]:
        crops = self._crops[: len(regions)]
        for region, crop in zip(regions, crops, strict=True):
            cv2.warpAffine(image, region.A_image_crop(CROP_SIDE), crop.shape[:2], dst=crop, **_CROPPING)
        outputs = self._landmarks({"image": crops})
        raw = outputs["landmarks"].reshape(-1, _ALL_POINTS, 5)
        world = outputs["world"].reshape(-1, _ALL_POINTS, 3)
        points_crop, peaks = refined(raw[..., :2], outputs["heatmap"])
        scores = np.minimum(outputs["presence"][:, 0], clarity(peaks))
        seen = 1 / (1 + np.exp(-raw[:, :_LANDMARKS, 3].astype(np.float64)))
        found = []
        for i, region in enumerate(regions):
            A = region.A_image_crop(CROP_SIDE)
            points = points_crop[i] @ A[:, :2].T + A[:, 2]
            c, s = math.cos(region.angle_rad), math.sin(region.angle_rad)
            metres = world[i, :_LANDMARKS].astype(np.float64)
            metres[:, :2] = metres[:, :2] @ np.array([[c, s], [-s, c]])
            depth = raw[i, :_LANDMARKS, 2] * (region.size_px / CROP_SIDE)
            landmarks = Landmarks(points[:_LANDMARKS], depth, seen[i], metres, float(scores[i]))
            found.append((landmarks, _region(points[_CENTER], points[_REACH])))
        return found


def whole_picture(image: Image) -> Region:
    """The square around the whole of `image` (H, W, 3)."""
    height, width = image.shape[:2]
    return Region((width / 2, height / 2), float(max(width, height)))


def merge_regions(found: Sequence[Found]) -> list[Found]:
    """The best-scored region of every person: one is a duplicate when its centre lies near a better one's."""
    kept: list[Found] = []
    for region, score in sorted(found, key=lambda f: -f[1]):
        if all(_distance(region, other) > 0.25 for other, _ in kept):
            kept.append((region, score))
    return kept


def _distance(a: Region, b: Region) -> float:
    """Distance of two regions' centres in sides of the smaller."""
    return math.dist(a.center_px, b.center_px) / max(min(a.size_px, b.size_px), 1e-6)


def _region(center: NDArray[np.float64], reach: NDArray[np.float64]) -> Region:
    """The region around a person whose hips are at `center` and who reaches as far as `reach`, both (2,) pixels."""
    du, dv = float(reach[0] - center[0]), float(reach[1] - center[1])
    size = max(2 * math.hypot(du, dv) * _REGION_SCALE, 1.0)
    return Region(
        (float(center[0]), float(center[1])), size, math.remainder(math.atan2(dv, du) + math.pi / 2, math.tau)
    )


@lru_cache(maxsize=64)
def _window_maps(window: Region) -> tuple[NDArray[np.int16], NDArray[np.uint16]]:
    """Sampling maps of the detector's picture of a window, in steps of 1/32 pixel as MediaPipe's OpenCV samples.

    The detector takes such long steps over the picture that exact sampling, equally good, moves people by pixels.
    """
    v, u = np.mgrid[:DETECTOR_SIDE, :DETECTOR_SIDE].astype(np.float64)
    A = window.A_image_crop(DETECTOR_SIDE)
    columns, rows = (A[i, 0] * u + A[i, 1] * v + A[i, 2] for i in (0, 1))
    return cv2.convertMaps(columns.astype(np.float32), rows.astype(np.float32), cv2.CV_16SC2)


def _shrunk(image: Image, window_px: float) -> tuple[Image, float]:
    """`image` averaged down by a whole number so that a window of `window_px` does not alias, and that number."""
    factor = int(window_px / DETECTOR_SIDE / (_MAX_STEP / 2)) if window_px > _MAX_STEP * DETECTOR_SIDE else 1
    if factor == 1:
        return np.ascontiguousarray(image), 1.0
    height, width = image.shape[0] // factor, image.shape[1] // factor
    if not (height and width):
        return np.ascontiguousarray(image), 1.0
    whole = np.ascontiguousarray(image[: height * factor, : width * factor])
    return np.asarray(cv2.resize(whole, (width, height), interpolation=cv2.INTER_AREA), np.uint8), float(factor)


def _steps(length: int, side: float, overhang: float) -> list[float]:
    """Centres of windows of `side` pixels over `length` pixels and `overhang` more at either end, half a side apart."""
    room = length - side + 2 * overhang
    count = min(max(1, math.ceil(room / (side / 2)) + 1) if room > 0.05 * side else 1, _MAX_TILES)
    if count == 1:
        return [length / 2]
    return [side / 2 - overhang + room * i / (count - 1) for i in range(count)]
