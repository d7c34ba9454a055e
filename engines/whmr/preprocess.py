"""From a frame to what the network eats: one batched call for all people in torch on any device, or OpenCV on a host.

=========  ===================  =================================================================
frame      (H, W, 3) uint8      RGB
boxes      (B, 5)               cx, cy, side, W, H in pixels, `square_boxes`
crops      (B, 3, 256, 192)     the middle columns of the square, black outside the frame
picture    (1, 3, h, w)         short side 600, for the camera network
=========  ===================  =================================================================

The released demo rounds crops and pictures to whole grey levels; in torch they are not, and differ by one at most.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.nn import functional as F

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CROP_SIDE, CROP_WIDTH, SHORT_SIDE = 256, 192, 600


def square_boxes(boxes_xyxy: ArrayLike, size_wh: tuple[int, int], enlarge: float = 1.0) -> NDArray[np.float32]:
    """(B, 5) = cx, cy, side, W, H in pixels of boxes (B, 4) = x0, y0, x1, y1 in a frame of size_wh.

    The square has the longer side, `enlarge` times; training saw about 1.2. The enlarged side goes into every formula.
    Raises ValueError for boxes without height and width, or of another shape.
    """
    boxes = np.asarray(boxes_xyxy, np.float64)
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(f"boxes_xyxy: expected shape (B, 4), got {boxes.shape}.")
    wh = boxes[:, 2:] - boxes[:, :2]
    if not np.isfinite(boxes).all() or (wh <= 0).any():
        raise ValueError(f"boxes_xyxy: expected x0 < x1 and y0 < y1, got {boxes.tolist()}.")
    frame = np.broadcast_to(np.asarray(size_wh, np.float64), wh.shape)
    side = wh.max(1, keepdims=True) * enlarge
    return np.concatenate([boxes[:, :2] + wh / 2, side, frame], 1).astype(np.float32)


def crops(frame: Tensor, boxes: Tensor) -> Tensor:
    """Normalised crops (B, 3, 256, 192) of a frame (H, W, 3) uint8 RGB at boxes (B, 5) px, bilinear.

    Crop pixel (u, v) of the 256 square lies at cx + (u - 128) side / 256; columns 32..223 are kept. Shrinking is not
    smoothed, as in the released demo.
    """
    height, width = frame.shape[:2]
    centre, scale = boxes[:, :2], boxes[:, 2:3] / CROP_SIDE
    at = torch.arange(CROP_SIDE, dtype=boxes.dtype, device=boxes.device) - CROP_SIDE / 2
    margin = (CROP_SIDE - CROP_WIDTH) // 2
    x = centre[:, :1] + at[margin : CROP_SIDE - margin] * scale
    y = centre[:, 1:] + at * scale
    grid = torch.stack(
        [
            (2 * x / (width - 1) - 1)[:, None].expand(-1, CROP_SIDE, -1),
            (2 * y / (height - 1) - 1)[:, :, None].expand(-1, -1, CROP_WIDTH),
        ],
        -1,
    )
    source = frame.permute(2, 0, 1)[None].to(boxes.dtype).expand(len(boxes), -1, -1, -1)
    return normalised(F.grid_sample(source, grid, padding_mode="zeros", align_corners=True))


def crops_on_host(image: NDArray[np.uint8], boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    """`crops` of an image (H, W, 3) RGB at boxes (B, 5) px, rounded to grey levels as in the demo.

    It looks at nothing but the squares and hands nothing to torch's threads, which would wait for cores that those of
    an engine hold.
    """
    out = np.empty((len(boxes), 3, CROP_SIDE, CROP_WIDTH), np.float32)
    mean, std = (np.array(v, np.float32)[:, None, None] * 255 for v in (MEAN, STD))
    for box, crop in zip(boxes.astype(np.float64), out, strict=True):
        k = box[2] / CROP_SIDE
        to_image = np.array([[k, 0, box[0] - k * CROP_WIDTH / 2], [0, k, box[1] - k * CROP_SIDE / 2]])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        square = cv2.warpAffine(image, to_image, (CROP_WIDTH, CROP_SIDE), flags=flags)
        np.divide(square.transpose(2, 0, 1) - mean, std, out=crop)
    return out


def picture(frame: Tensor, short_side: int = SHORT_SIDE) -> Tensor:
    """The normalised frame (1, 3, h, w), short side resized to `short_side` px, bilinear and smoothed as PIL does."""
    height, width = frame.shape[:2]
    short, long = sorted((height, width))
    other = int(short_side * long / short)
    size = (short_side, other) if height <= width else (other, short_side)
    source = frame.permute(2, 0, 1)[None].float()
    return normalised(F.interpolate(source, size, mode="bilinear", align_corners=False, antialias=True))


def normalised(grey: Tensor) -> Tensor:
    """(B, 3, h, w) of 0..255 by ImageNet's mean and standard deviation."""
    mean, std = (grey.new_tensor(v)[:, None, None] * 255 for v in (MEAN, STD))
    return (grey - mean) / std
