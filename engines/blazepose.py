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

from engines.models import DETECTOR_ONNX, LANDMARKS_ONNX, model_path
from engines.runtime import Engine, open_engine
from pipeline.types import Landmarks

Image = NDArray[np.uint8]
Floats = NDArray[np.float32]

_DETECTOR_SIDE, _CROP_SIDE, _HEATMAP_SIDE = 224, 256, 64
_LANDMARKS, _ALL_POINTS = 33, 39
#: Two auxiliary landmarks: the hips' middle, and a point as far from it as the person reaches.
_CENTER, _REACH = 33, 34
_REGION_SCALE = 1.25
_MERGE_IOU = 0.3
_HEATMAP_RADIUS = 3
_HEATMAP_MIN_CONFIDENCE = 0.5
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
        self._anchors = _anchors()
        self._crops = np.empty((max_batch, _CROP_SIDE, _CROP_SIDE, 3), np.uint8)
        self._window = np.empty((1, _DETECTOR_SIDE, _DETECTOR_SIDE, 3), np.uint8)

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
        pose.landmarks(np.zeros((_CROP_SIDE, _CROP_SIDE, 3), np.uint8), [Region((128.0, 128.0), 256.0)])
        return pose

    def detect(self, image: Image, threshold: float = 0.5, windows: Sequence[Region] | None = None) -> list[Found]:
        """Regions of the people in `image` (H, W, 3) uint8 RGB with their scores 0..1, the best first.

        The detector looks once into each of `windows` (None: the whole picture), which may reach out of the picture.
        People seen in several windows are merged.
        """
        if windows is None:
            windows = [whole_picture(image)]
        image, scale = _shrunk(image, min(w.size_px for w in windows)) if windows else (image, 1.0)
        found = [d for window in windows for d in self._detect_one(image, scale, window, threshold)]
        return merge_regions(found) if len(windows) > 1 else found

    def detect_tiled(self, image: Image, threshold: float = 0.5) -> list[Found]:
        """As `detect`, through every window of `windows`: finds small people and groups, takes longer accordingly."""
        return self.detect(image, threshold, self.windows((image.shape[1], image.shape[0])))

    @staticmethod
    def windows(size_wh: tuple[int, int]) -> list[Region]:
        """The windows of a whole sweep over a picture of that size: the whole of it, then overlapping squares."""
        width, height = size_wh
        squares = [Region((width / 2, height / 2), float(max(width, height)))]
        for fraction in (1.0, 0.6):
            side = min(width, height) * fraction
            squares += [Region((u, v), side) for v in _steps(height, side) for u in _steps(width, side)]
        return squares

    def landmarks(self, image: Image, regions: Sequence[Region]) -> list[tuple[Landmarks, Region]]:
        """Landmarks of the person in each of `regions`, and the region to look in for the same person next.

        `image` is (H, W, 3) uint8 RGB. All regions go through the network in one batch (or several of `max_batch`).
        `Landmarks.score` is the network's own belief that there is a person.
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
        values = outputs["boxes"][0][kept].astype(np.float64) / _DETECTOR_SIDE
        anchors = self._anchors[kept]
        centers, halves = values[:, :2] + anchors, values[:, 2:4] / 2
        points = values[:, 4:8].reshape(-1, 2, 2) + anchors[:, None]
        corner = np.subtract(window.center_px, window.size_px / 2)
        merged = _weighted_suppression(np.hstack([centers - halves, centers + halves]), points, scores)
        return [(_region(*(p * window.size_px + corner)), score) for p, score in merged]

    def _landmarks_batch(self, image: Image, regions: Sequence[Region]) -> list[tuple[Landmarks, Region]]:
        crops = self._crops[: len(regions)]
        for region, crop in zip(regions, crops, strict=True):
            cv2.warpAffine(image, region.A_image_crop(_CROP_SIDE), crop.shape[:2], dst=crop, **_CROPPING)
        outputs = self._landmarks({"image": crops})
        raw = outputs["landmarks"].reshape(-1, _ALL_POINTS, 5)
        world = outputs["world"].reshape(-1, _ALL_POINTS, 3)
        refined = _refined(raw[..., :2], outputs["heatmap"])
        seen = 1 / (1 + np.exp(-raw[:, :_LANDMARKS, 3].astype(np.float64)))
        found = []
        for i, region in enumerate(regions):
            A = region.A_image_crop(_CROP_SIDE)
            points = refined[i] @ A[:, :2].T + A[:, 2]
            c, s = math.cos(region.angle_rad), math.sin(region.angle_rad)
            metres = world[i, :_LANDMARKS].astype(np.float64)
            metres[:, :2] = metres[:, :2] @ np.array([[c, s], [-s, c]])
            depth = raw[i, :_LANDMARKS, 2] * (region.size_px / _CROP_SIDE)
            score = float(outputs["presence"][i, 0])
            landmarks = Landmarks(points[:_LANDMARKS], depth, seen[i], metres, score)
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
    v, u = np.mgrid[:_DETECTOR_SIDE, :_DETECTOR_SIDE].astype(np.float64)
    A = window.A_image_crop(_DETECTOR_SIDE)
    columns, rows = (A[i, 0] * u + A[i, 1] * v + A[i, 2] for i in (0, 1))
    return cv2.convertMaps(columns.astype(np.float32), rows.astype(np.float32), cv2.CV_16SC2)


def _shrunk(image: Image, window_px: float) -> tuple[Image, float]:
    """`image` averaged down by a whole number so that a window of `window_px` does not alias, and that number."""
    factor = int(window_px / _DETECTOR_SIDE / (_MAX_STEP / 2)) if window_px > _MAX_STEP * _DETECTOR_SIDE else 1
    if factor == 1:
        return np.ascontiguousarray(image), 1.0
    height, width = image.shape[0] // factor, image.shape[1] // factor
    if not (height and width):
        return np.ascontiguousarray(image), 1.0
    whole = np.ascontiguousarray(image[: height * factor, : width * factor])
    return np.asarray(cv2.resize(whole, (width, height), interpolation=cv2.INTER_AREA), np.uint8), float(factor)


def _steps(length: int, side: float) -> list[float]:
    """Centres of the overlapping windows of `side` pixels that cover `length` pixels, half a side apart at most."""
    room = length - side
    count = max(1, math.ceil(room / (side / 2)) + 1) if room > 0.05 * side else 1
    if count == 1:
        return [length / 2]
    return [side / 2 + room * i / (count - 1) for i in range(count)]


def _anchors() -> NDArray[np.float64]:
    """Centres (2254, 2) of the detector's anchors as fractions of its picture: strides 8, 16 and three times 32."""
    layers = []
    for stride, each in ((8, 2), (16, 2), (32, 6)):
        n = _DETECTOR_SIDE // stride
        v, u = np.mgrid[:n, :n]
        layers.append(np.repeat(np.stack([u, v], -1).reshape(-1, 2) + 0.5, each, axis=0) / n)
    return np.concatenate(layers)


def _weighted_suppression(
    boxes: NDArray[np.float64], points: NDArray[np.float64], scores: NDArray[np.float64]
) -> list[tuple[NDArray[np.float64], float]]:
    """MediaPipe's weighted non-maximum suppression: overlapping detections give their mean, weighted by score.

    boxes (n, 4) xyxy, points (n, 2, 2), scores (n,) -> points (2, 2) and best score of each cluster, the best first.
    """
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    order, merged = np.argsort(-scores), []
    while len(order):
        best = order[0]
        low, high = np.maximum(boxes[order, :2], boxes[best, :2]), np.minimum(boxes[order, 2:], boxes[best, 2:])
        shared = np.clip(high - low, 0, None).prod(1)
        same = shared / np.maximum(areas[order] + areas[best] - shared, 1e-12) > _MERGE_IOU
        same[0] = True
        cluster, order = order[same], order[~same]
        weights = scores[cluster] / scores[cluster].sum()
        merged.append((np.tensordot(weights, points[cluster], 1), float(scores[best])))
    return merged


def _refined(points: Floats, heatmaps: Floats) -> NDArray[np.float64]:
    """Crop pixels (n, 39, 2) moved to the centre of mass of their heatmaps (n, 64, 64, 39, logits) around them.

    A point stays where nothing in the 7x7 cells around it reaches half confidence, or when it is outside the crop.
    """
    to_cells = _HEATMAP_SIDE / _CROP_SIDE
    cells = np.trunc(points * to_cells).astype(np.int64)
    around = np.arange(-_HEATMAP_RADIUS, _HEATMAP_RADIUS + 1)
    columns, rows = cells[..., 0, None] + around, cells[..., 1, None] + around
    limit = _HEATMAP_SIDE - 1
    n, joints = points.shape[:2]
    logits = heatmaps[
        np.arange(n)[:, None, None, None],
        np.clip(rows, 0, limit)[..., :, None],
        np.clip(columns, 0, limit)[..., None, :],
        np.arange(joints)[:, None, None],
    ]
    confidence = 1 / (1 + np.exp(-logits))
    confidence *= ((rows >= 0) & (rows <= limit))[..., :, None] & ((columns >= 0) & (columns <= limit))[..., None, :]
    by_column, by_row = confidence.sum(-2), confidence.sum(-1)
    mass = np.maximum(by_row.sum(-1), 1e-12)
    centers = np.stack([(by_column * columns).sum(-1), (by_row * rows).sum(-1)], -1) / mass[..., None]
    inside = ((cells >= 0) & (cells <= limit)).all(-1)
    sure = inside & (confidence.max((-1, -2)) >= _HEATMAP_MIN_CONFIDENCE)
    return np.where(sure[..., None], centers / to_cells, points.astype(np.float64))
