"""MediaPipe's own PoseLandmarker on the embedded networks: what `engines.blazepose` is kept equal to."""

from __future__ import annotations

import atexit
import io
import zipfile
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from engines.models import TASK_BUNDLE, model_path
from pipeline.types import Landmarks

_ALIGNMENT = 16


class MediaPipeReference:
    """MediaPipe's PoseLandmarker, two threads or so of CPU, single-threaded over people.

    num_poses  people at most, 1 or more
    mode       "image": every picture for itself. "video": regions carried on from picture to picture, and with one
               pose MediaPipe's own One-Euro smoothing (with more it does not smooth, and prefers a detection's
               region to one carried on)
    threshold  of the person detector

    Raises ModelError when the models are not there, ValueError for another mode or number.
    """

    def __init__(
        self,
        num_poses: int = 1,
        mode: Literal["video", "image"] = "video",
        store: str | Path | None = None,
        threshold: float = 0.5,
    ) -> None:
        if mode not in ("video", "image") or num_poses < 1:
            raise ValueError(
                f"MediaPipeReference: expected mode video or image and a pose or more, got {mode}, {num_poses}."
            )
        bundle = model_path(TASK_BUNDLE, store)
        from mediapipe.tasks.python import vision
        from mediapipe.tasks.python.core.base_options import BaseOptions

        self._video = mode == "video"
        running_mode = vision.RunningMode.VIDEO if self._video else vision.RunningMode.IMAGE
        self._landmarker = vision.PoseLandmarker.create_from_options(
            vision.PoseLandmarkerOptions(
                base_options=BaseOptions(model_asset_buffer=bundle.read_bytes()),
                running_mode=running_mode,
                num_poses=num_poses,
                min_pose_detection_confidence=threshold,
            )
        )
        # MediaPipe's own __del__ comes too late when the interpreter ends, and waits for a lock forever where the
        # garbage collector calls it within a thread pool's submit: who is open is never collected
        atexit.register(self.close)
        self._last_ms, self._closed = -1, False

    def __call__(self, image: NDArray[np.uint8], t_ms: float = 0.0) -> list[Landmarks]:
        """Landmarks of the people in `image` (H, W, 3) uint8 RGB, in MediaPipe's order.

        `t_ms` is the picture's time in milliseconds, used in video mode only; one that does not grow is moved on by
        a millisecond, as MediaPipe refuses it.
        """
        import mediapipe

        picture = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=np.ascontiguousarray(image))
        if self._video:
            self._last_ms = max(self._last_ms + 1, round(t_ms))
            result = self._landmarker.detect_for_video(picture, self._last_ms)
        else:
            result = self._landmarker.detect(picture)
        size = (image.shape[1], image.shape[0])
        return [_landmarks(p, w, size) for p, w in zip(result.pose_landmarks, result.pose_world_landmarks, strict=True)]

    def close(self) -> None:
        """Frees MediaPipe's threads and memory; nothing else does before the program ends. Again does nothing."""
        atexit.unregister(self.close)
        if not self._closed:
            self._closed = True
            self._landmarker.close()


def _landmarks(points: list[Any], world: list[Any], size_wh: tuple[int, int]) -> Landmarks:
    """MediaPipe's normalised records in pixels.

    Its result has no score of the whole pose; the mean presence of the better half of the landmarks stands in.
    """
    width, height = size_wh
    uvz = np.array([(p.x, p.y, p.z) for p in points]) * (width, height, width)
    return Landmarks(
        points_px=uvz[:, :2],
        depth_px=uvz[:, 2],
        visibility=np.array([p.visibility for p in points]),
        points_m=np.array([(p.x, p.y, p.z) for p in world]),
        score=float(np.mean(sorted(p.presence for p in points)[len(points) // 2 :])),
    )


def compose_bundle(detector: bytes, landmarks: bytes) -> bytes:
    """The `.task` bundle (bytes) of the two TFLite models.

    PoseLandmarker wants the input's normalisation in the landmark model's metadata (0..255 -> 0..1), which the model
    lacks, and the members stored uncompressed at multiples of 16 bytes, from where it maps them.
    """
    members = {"pose_detector.tflite": detector, "pose_landmarks_detector.tflite": _with_normalization(landmarks)}
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name, content in members.items():
            info = zipfile.ZipInfo(name)
            # the content follows 30 bytes of header, the name and the extra field, which pads it to the boundary
            padding = -(out.tell() + 30 + len(name) + 4) % _ALIGNMENT
            info.extra = b"\xff\xff" + padding.to_bytes(2, "little") + bytes(padding)
            archive.writestr(info, content)
    return out.getvalue()


def _with_normalization(model: bytes) -> bytes:
    import flatbuffers
    from mediapipe.tasks.metadata import metadata_schema_py_generated as metadata
    from mediapipe.tasks.metadata import schema_py_generated as schema

    parsed = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(model, 0))
    normalization = metadata.NormalizationOptionsT()
    normalization.mean, normalization.std = [0.0], [255.0]
    unit = metadata.ProcessUnitT()
    unit.optionsType, unit.options = metadata.ProcessUnitOptions.NormalizationOptions, normalization
    properties = metadata.ImagePropertiesT()
    properties.colorSpace = metadata.ColorSpaceType.RGB
    content = metadata.ContentT()
    content.contentPropertiesType, content.contentProperties = metadata.ContentProperties.ImageProperties, properties
    tensor = metadata.TensorMetadataT()
    tensor.name, tensor.content, tensor.processUnits = "image", content, [unit]
    subgraph = metadata.SubGraphMetadataT()
    subgraph.inputTensorMetadata = [tensor]
    subgraph.outputTensorMetadata = [metadata.TensorMetadataT() for _ in parsed.subgraphs[0].outputs]
    root = metadata.ModelMetadataT()
    root.name, root.subgraphMetadata, root.minParserVersion = "Pose landmarks", [subgraph], "1.0.0"
    builder = flatbuffers.Builder(0)
    builder.Finish(root.Pack(builder), b"M001")
    buffer, entry = schema.BufferT(), schema.MetadataT()
    buffer.data = np.frombuffer(bytes(builder.Output()), np.uint8)
    parsed.buffers.append(buffer)
    entry.name, entry.buffer = b"TFLITE_METADATA", len(parsed.buffers) - 1
    parsed.metadata = [*(parsed.metadata or []), entry]
    builder = flatbuffers.Builder(len(model))
    builder.Finish(parsed.Pack(builder), b"TFL3")
    return bytes(builder.Output())
