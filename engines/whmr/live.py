"""The exported engines as a stream calls them: a picture and its people's boxes in, bodies out.

=============  ===============  =====================================================================
boxes          (B, 5)           cx, cy, side, W, H in pixels: the squares the crops were taken from
Rs             (B, 24, 3, 3)    R_camera_root, then parent-relative
betas          (B, 10)
cam            (B, 3)           s, tx, ty of the weak camera on the crop
Tz             (B)              metres
R_level_root   (B, 3, 3)        OrientCorrect's
joints         (B, 24, 3)       metres, camera axes, before any translation
=============  ===============  =====================================================================
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from engines.runtime import Engine, open_engine
from engines.whmr import prepare, store
from engines.whmr.parts import STREAM
from engines.whmr.preprocess import crops, crops_on_host, picture, square_boxes

#: A detector's boxes end at the body, training's were about 1.2 times as large.
ENLARGE = 1.15
_KEPT = ("Rs", "betas", "cam", "R_level_root", "joints")


class WhmrEngines:
    """The engines of a stream in `folder`, opened; for one thread.

    Raises what `open_engine` does.
    """

    def __init__(
        self, folder: Path, device: str = "cpu", backend: str = "auto", precision: str = "fp32",
        threads: int | None = None,
    ) -> None:  # fmt: skip
        self.smpl: Mapping[str, NDArray[Any]] = store.body_arrays(folder)
        self.device = device
        self._engines: dict[str, Engine] = {}
        try:
            for name in STREAM:
                path = store.engine_file(folder, name)
                self._engines[name] = open_engine(path, device, backend, precision, threads)
        except (OSError, ValueError):
            self.close()
            raise
        # engines that pass tensors on where they are, as those on a GPU do
        self._chained = all(hasattr(engine, "on_device") for engine in self._engines.values())

    @classmethod
    def open(
        cls, weights: str | Path, markers: str | Path | None = None, folder: Path | None = None, device: str = "cpu",
        backend: str = "auto", precision: str = "fp32", threads: int | None = None,
    ) -> WhmrEngines:  # fmt: skip
        """The engines that were prepared of these weights in the store `folder` (None: engines/store/whmr).

        Those of `synthetic` are prepared here. Raises CheckpointError (an OSError) for files that are missing or
        others, and what `open_engine` raises.
        """
        return cls(prepare.ensure(weights, markers, folder), device, backend, precision, threads)

    def warm(self, max_people: int) -> None:
        """Prepares the engines for people; on a CPU for one, as each number costs seconds and half a gigabyte."""
        batches = (1,) if self.device == "cpu" else tuple(range(1, max_people + 1))
        for name in ("body", "joints"):
            self._engines[name].warm(batches)

    def camera(self, image: NDArray[np.uint8]) -> tuple[float, float, float]:
        """Vertical field of view, pitch and roll in radians of the camera that took `image` (H, W, 3) RGB.

        pitch > 0 looks down, roll > 0 lowers the horizon's right end: R_camera_level = Rx(pitch) Rz(roll).
        """
        out = self._run("camera", {"picture": picture(self._tensor(image))})
        vfov, pitch, roll = out["angles"][0].tolist()
        return vfov, pitch, roll

    def people(
        self, image: NDArray[np.uint8], boxes_xyxy: ArrayLike, R_camera_level: ArrayLike
    ) -> dict[str, NDArray[np.float32]]:
        """The bodies of all people of `image` (H, W, 3) RGB in one batch; see the module's table.

        boxes_xyxy (B, 4) pixels, B >= 1; R_camera_level (3, 3) of the calibration. Raises ValueError for empty boxes.
        """
        boxes = square_boxes(boxes_xyxy, (image.shape[1], image.shape[0]), ENLARGE)
        level = np.tile(np.asarray(R_camera_level, np.float32), (len(boxes), 1, 1))
        squares = self._tensor(boxes)
        on_gpu = self._chained and self.device != "cpu"
        seen = crops(self._tensor(image), squares) if on_gpu else self._tensor(crops_on_host(image, boxes))
        body = self._run("body", {"crops": seen})
        maps = {name: body[name] for name in ("f1", "f2", "f3")}
        out = self._run("joints", maps | {"boxes": squares, "R_camera_level": self._tensor(level)})
        kept = {name: _array(out[name]) for name in _KEPT}
        return kept | {"boxes": boxes, "Tz": _array(body["Tz"])}

    def _run(self, name: str, feed: Mapping[str, Any]) -> Mapping[str, Any]:
        """One engine: tensors where it takes them, arrays where it does not. Its answers are its own."""
        engine: Any = self._engines[name]
        if self._chained:
            return cast(Mapping[str, Any], engine.on_device(feed))
        arrays = {key: v.numpy() if isinstance(v, torch.Tensor) else v for key, v in feed.items()}
        return cast(Mapping[str, Any], engine(arrays))

    def _tensor(self, array: NDArray[Any]) -> torch.Tensor:
        """The array where the engines take tensors; else on the host."""
        # torch warns of arrays that it could write to but must not
        tensor = torch.from_numpy(np.require(array, requirements=["C", "W"]))
        return tensor.to(self.device) if self._chained else tensor

    def close(self) -> None:
        """Frees the engines."""
        for engine in self._engines.values():
            engine.close()
        self._engines.clear()


def _array(value: Any) -> NDArray[np.float32]:
    """A copy on the host."""
    return np.array(value.cpu() if isinstance(value, torch.Tensor) else value)
