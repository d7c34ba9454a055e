"""The arithmetic between BlazePose's raw outputs and points: anchors, suppression, heatmaps. Arrays in and out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

#: Pixels of the detector's picture, of the landmark network's crop, and cells of its heatmaps.
DETECTOR_SIDE, CROP_SIDE, HEATMAP_SIDE = 224, 256, 64
_MERGE_IOU = 0.3
_HEATMAP_RADIUS = 3
_HEATMAP_MIN_CONFIDENCE = 0.5
#: A person is believed as far as the sharper half of the body's landmarks is: from nothing to fully.
_BODY, _SHARP_FROM, _SHARP_TO = slice(11, 29), 0.3, 0.66


def anchors() -> NDArray[np.float64]:
    """Centres (2254, 2) of the detector's anchors as fractions of its picture: strides 8, 16 and three times 32."""
    layers = []
    for stride, each in ((8, 2), (16, 2), (32, 6)):
        n = DETECTOR_SIDE // stride
        v, u = np.mgrid[:n, :n]
        layers.append(np.repeat(np.stack([u, v], -1).reshape(-1, 2) + 0.5, each, axis=0) / n)
    return np.concatenate(layers)


def weighted_suppression(
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


def clarity(peaks: Floats) -> NDArray[np.float64]:
    """How far to believe in a person (n,) 0..1 by the heatmaps' peaks (n, 39) at the landmarks.

    Only the better half of the body counts, as the other may be hidden or out of the picture.
    """
    half = np.sort(peaks[:, _BODY])[:, (_BODY.stop - _BODY.start) // 2 :].mean(1)
    return np.clip((half - _SHARP_FROM) / (_SHARP_TO - _SHARP_FROM), 0.0, 1.0)


def refined(points: Floats, heatmaps: Floats) -> tuple[NDArray[np.float64], Floats]:
    """Crop pixels (n, 39, 2) moved to the centre of mass of their heatmaps (n, 64, 64, 39, logits) around them.

    A point stays where nothing in the 7x7 cells around it reaches half confidence, or when it is outside the crop.
    The highest confidence (n, 39) around each point is the second result.
    """
    to_cells = HEATMAP_SIDE / CROP_SIDE
    cells = np.trunc(points * to_cells).astype(np.int64)
    around = np.arange(-_HEATMAP_RADIUS, _HEATMAP_RADIUS + 1)
    columns, rows = cells[..., 0, None] + around, cells[..., 1, None] + around
    limit = HEATMAP_SIDE - 1
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
    peaks = np.where(inside, confidence.max((-1, -2)), 0.0)
    sure = peaks >= _HEATMAP_MIN_CONFIDENCE
    return np.where(sure[..., None], centers / to_cells, points.astype(np.float64)), peaks
