"""Model store, conversion, engines, and BlazePose against MediaPipe itself."""

from __future__ import annotations

import gc
import logging
import os
import shutil
import sys
import weakref
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from engines import models
from engines.blazepose import BlazePose, Region, merge_regions
from engines.blazepose_decode import HEATMAP_SIDE, anchors, refined, weighted_suppression
from engines.mediapipe_reference import MediaPipeReference
from engines.models import DETECTOR_ONNX, LANDMARKS_ONNX, ModelError
from engines.runtime import EngineError, open_engine
from engines.tflite import convert
from pipeline.types import Landmarks

CLIPS = Path(os.environ.get("WHMR_CLIPS", Path(__file__).parents[2] / "shared" / "clips"))
DEMO = Path(__file__).parents[1] / "benchmarks" / "clips"
Image = NDArray[np.uint8]


@pytest.fixture(scope="module")
def store() -> Path:
    try:
        return models.verify()
    except ModelError as e:
        pytest.skip(str(e))


@pytest.fixture(scope="module")
def pose(store: Path) -> Iterator[BlazePose]:
    opened = BlazePose.open(store, threads=2, max_batch=2)
    yield opened
    opened.close()


def frames(clip: str, indices: list[int]) -> list[Image]:
    path = (DEMO if clip.startswith("demo") else CLIPS) / clip / "video.mp4"
    if not path.is_file():
        pytest.skip(f"the clip {clip} is not here")
    video, found = cv2.VideoCapture(str(path)), []
    for i in range(max(indices) + 1):
        assert video.grab()
        if i in indices:
            found.append(np.asarray(cv2.cvtColor(video.retrieve()[1], cv2.COLOR_BGR2RGB), np.uint8))
    return found


def crops(n: int) -> Image:
    rng = np.random.default_rng(0)
    small = rng.integers(0, 255, (n, 16, 16, 3), dtype=np.uint8)
    return np.stack([cv2.resize(s, (256, 256), interpolation=cv2.INTER_CUBIC) for s in small]).astype(np.uint8)


def test_a_missing_store_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"python -m engines\.models fetch"):
        models.verify(tmp_path)
    with pytest.raises(ModelError, match=r"python -m engines\.models fetch"):
        BlazePose.open(tmp_path)
    assert models.main(["verify", "--store", str(tmp_path)]) == 1


def test_damaged_and_missing_files_are_found(store: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(store, tmp_path / "store")
    assert models.verify(copy) == copy
    with (copy / LANDMARKS_ONNX).open("r+b") as f:
        f.seek(1000)
        f.write(b"\0\1\2\3")
    with pytest.raises(ModelError, match=f"{LANDMARKS_ONNX}.*SHA-256.*fetch"):
        models.verify(copy)
    (copy / LANDMARKS_ONNX).unlink()
    with pytest.raises(ModelError, match="missing"):
        models.model_path(LANDMARKS_ONNX, copy)
    (copy / models.MANIFEST).write_text("{")
    with pytest.raises(ModelError, match="manifest"):
        models.verify(copy)


def test_the_store_may_be_elsewhere(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(models.STORE_VARIABLE, str(tmp_path))
    assert models.store_dir() == tmp_path
    assert models.store_dir(store) == store


def test_fetch_of_a_complete_store_changes_nothing(store: Path) -> None:
    before = {p.name: p.stat().st_mtime_ns for p in store.iterdir()}
    assert models.fetch(store) == store
    assert {p.name: p.stat().st_mtime_ns for p in store.iterdir()} == before


def test_another_wheel_is_refused(tmp_path: Path) -> None:
    wheel = tmp_path / "mediapipe.whl"
    wheel.write_bytes(b"something else")
    with pytest.raises(ModelError, match="expected the manylinux"):
        models.fetch(tmp_path / "store", wheel)
    assert not (tmp_path / "store").exists()


def test_only_tflite_is_converted() -> None:
    with pytest.raises(ValueError, match="TFL3"):
        convert(b"not a model", {0: "out"}, 1.0)


def test_conversion_is_what_the_store_holds(store: Path) -> None:
    made = convert((store / models.DETECTOR.file).read_bytes(), {0: "boxes", 1: "scores"}, 1 / 127.5, -1.0)
    assert made.SerializeToString() == (store / DETECTOR_ONNX).read_bytes()


@pytest.mark.parametrize("name", [DETECTOR_ONNX, LANDMARKS_ONNX])
def test_both_back_ends_agree_for_every_batch(store: Path, name: str) -> None:
    engines = [open_engine(store / name, backend=b, threads=2) for b in ("openvino", "onnx")]
    assert engines[0].inputs == engines[1].inputs
    assert engines[0].outputs == engines[1].outputs
    side = engines[0].inputs[0].shape[1]
    assert side
    pictures = np.ascontiguousarray(crops(3)[:, :side, :side])
    singles = [{k: v.copy() for k, v in engines[0]({"image": pictures[i : i + 1]}).items()} for i in range(3)]
    results = [{k: v.copy() for k, v in e({"image": pictures}).items()} for e in engines]
    for spec in engines[0].outputs:
        scale = max(1.0, float(np.abs(results[0][spec.name]).max()))
        np.testing.assert_allclose(results[0][spec.name] / scale, results[1][spec.name] / scale, atol=1e-4)
        alone = np.concatenate([s[spec.name] for s in singles])
        np.testing.assert_allclose(alone / scale, results[0][spec.name] / scale, atol=1e-4)
    for engine in engines:
        engine.close()
        with pytest.raises(ValueError, match="closed"):
            engine({"image": pictures[:2]})


def test_an_engine_says_what_it_expects(store: Path) -> None:
    engine = open_engine(store / DETECTOR_ONNX, threads=2)
    with pytest.raises(ValueError, match=r"uint8 of shape \(None, 224, 224, 3\), got float32"):
        engine({"image": np.zeros((1, 224, 224, 3), np.float32)})
    with pytest.raises(ValueError, match="expected an input of that name, got picture"):
        engine({"picture": np.zeros((1, 224, 224, 3), np.uint8)})


def test_open_engine_says_what_exists(store: Path, tmp_path: Path) -> None:
    path = store / DETECTOR_ONNX
    with pytest.raises(ValueError, match="openvino, onnx"):
        open_engine(path, backend="abacus")
    with pytest.raises(ValueError, match="cpu, cuda"):
        open_engine(path, device="tpu")
    for device in ("cpu:0", "cuda:", "cuda:x"):
        with pytest.raises(ValueError, match=f"device: expected one of cpu, cuda or cuda:1, got {device}"):
            open_engine(path, device=device)
    with pytest.raises(FileNotFoundError, match="no such model"):
        open_engine(tmp_path / "none.onnx")
    with pytest.raises(EngineError, match=r"openvino: .* onnx: "):
        open_engine(path, precision="fp16")
    (tmp_path / "bad.onnx").write_bytes(b"bad")
    for backend in ("openvino", "onnx"):
        with pytest.raises(EngineError, match="cannot"):
            open_engine(tmp_path / "bad.onnx", backend=backend)


def test_onnx_runtime_takes_over_and_the_reason_is_logged(
    store: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with caplog.at_level(logging.WARNING):
        engine = open_engine(store / DETECTOR_ONNX, threads=2)
    assert type(engine).__name__ == "OnnxEngine"
    assert "OpenVINO is not installed" in caplog.text


def test_heatmaps_refine_as_a_plain_loop_does() -> None:
    rng = np.random.default_rng(1)
    points = rng.uniform(-20, 276, (2, 39, 2)).astype(np.float32)
    maps = rng.normal(-2, 2, (2, HEATMAP_SIDE, HEATMAP_SIDE, 39)).astype(np.float32)
    moved, peaks = refined(points, maps)
    for n in range(2):
        for j in range(39):
            x, y = (int(c) for c in points[n, j] / 4)
            expected, peak = points[n, j].astype(float), 0.0
            if 0 <= x < HEATMAP_SIDE and 0 <= y < HEATMAP_SIDE:
                rows = range(max(0, y - 3), min(HEATMAP_SIDE, y + 4))
                columns = range(max(0, x - 3), min(HEATMAP_SIDE, x + 4))
                p = {(r, c): 1 / (1 + np.exp(-float(maps[n, r, c, j]))) for r in rows for c in columns}
                peak = max(p.values())
                if peak >= 0.5:
                    center = [sum(v * rc[k] for rc, v in p.items()) / sum(p.values()) for k in (1, 0)]
                    expected = np.array(center) * 4
            np.testing.assert_allclose(moved[n, j], expected, atol=1e-3)
            assert peaks[n, j] == pytest.approx(peak, abs=1e-5)


def test_suppression_averages_by_score() -> None:
    assert anchors().shape == (2254, 2)
    boxes = np.array([[0.1, 0.1, 0.4, 0.4], [0.12, 0.1, 0.42, 0.4], [0.6, 0.6, 0.9, 0.9]])
    points = np.arange(12.0).reshape(3, 2, 2)
    merged = weighted_suppression(boxes, points, np.array([0.6, 0.9, 0.7]))
    assert [score for _, score in merged] == [0.9, 0.7]
    np.testing.assert_allclose(merged[0][0], (0.6 * points[0] + 0.9 * points[1]) / 1.5)


def test_merging_keeps_the_best_of_each() -> None:
    found = [(Region((100, 100), 80), 0.6), (Region((105, 100), 90), 0.9), (Region((180, 100), 80), 0.7)]
    assert [score for _, score in merge_regions(found)] == [0.9, 0.7]


def test_a_crop_maps_back_to_its_region() -> None:
    A = Region((50.0, 60.0), 128.0, np.pi / 2).A_image_crop(256)
    np.testing.assert_allclose(A @ [128, 128, 1], [50, 60])
    # a quarter turn takes the crop's u axis to the image's v axis
    np.testing.assert_allclose(A[:, 0], [0, 0.5], atol=1e-12)


def difference(a: Landmarks, b: Landmarks) -> tuple[float, float]:
    """Mean distance of the image landmarks (px) and of the metric ones (mm)."""
    px = np.linalg.norm(a.points_px - b.points_px, axis=1).mean()
    return float(px), float(1e3 * np.linalg.norm(a.points_m - b.points_m, axis=1).mean())


SINGLES = [
    ("demo_one", [0, 60]),
    ("clips_gt/p2s_beam_cam1", [0, 50]),
    ("clips_gt/zju_feng_cam5", [0]),
    ("clips_gt/caliscope_charuco_cam2_focalonly", [20]),
    ("clips_nogt/pymaf_dancer", [0]),
    ("clips_nogt/hybrik_taiji", [0]),
    ("clips_nogt/gvhmr_tennis", [0]),
]


@pytest.mark.parametrize(("clip", "indices"), SINGLES)
def test_a_picture_gives_what_mediapipe_gives(pose: BlazePose, clip: str, indices: list[int]) -> None:
    reference = MediaPipeReference(1, "image")
    for image in frames(clip, indices):
        (expected,) = reference(image)
        region, _ = pose.detect(image)[0]
        ((landmarks, _),) = pose.landmarks(image, [region])
        px, mm = difference(landmarks, expected)
        assert px < 1.0
        assert mm < 5.0
        assert np.abs(landmarks.depth_px - expected.depth_px).mean() < 0.01 * region.size_px
        assert np.abs(landmarks.visibility - expected.visibility).max() < 0.05
    reference.close()


@pytest.mark.parametrize(("clip", "first"), [("clips_gt/zju_feng_cam5", 33), ("clips_gt/p2s_beam_cam1", 9)])
def test_regions_are_carried_on_as_mediapipe_does(pose: BlazePose, clip: str, first: int) -> None:
    # Two poses, as with one it smooths; and a threshold that only the first of these frames passes, as it prefers a
    # detection's region to the one it carries on. Four frames: regions and landmarks answer each other, so rounding
    # errors double from frame to frame.
    images = frames(clip, list(range(first, first + 4)))
    scores = [pose.detect(image)[0][1] for image in images]
    assert scores[0] > max(scores[1:]) + 0.01
    threshold = (scores[0] + max(scores[1:])) / 2
    reference = MediaPipeReference(2, "video", threshold=threshold)
    region, _ = pose.detect(images[0], threshold)[0]
    differences = []
    for i, image in enumerate(images):
        (expected,) = reference(image, i * 40.0)
        ((landmarks, region),) = pose.landmarks(image, [region])
        differences.append(difference(landmarks, expected))
    px, mm = np.mean(differences, axis=0)
    assert px < 1.0
    assert mm < 5.0
    reference.close()


def test_a_turned_picture_gives_turned_landmarks(pose: BlazePose) -> None:
    (image,) = frames("demo_one", [30])
    region, _ = pose.detect(image)[0]
    turned = np.ascontiguousarray(np.rot90(image))
    (u, v), width = region.center_px, image.shape[1]
    ((upright, after),) = pose.landmarks(image, [region])
    lying_region = Region((v, width - 1 - u), region.size_px, region.angle_rad - np.pi / 2)
    ((lying, _),) = pose.landmarks(turned, [lying_region])
    back = np.stack([width - 1 - lying.points_px[:, 1], lying.points_px[:, 0]], 1)
    assert np.linalg.norm(back - upright.points_px, axis=1).mean() < 1.0
    back_m = np.stack([-lying.points_m[:, 1], lying.points_m[:, 0], lying.points_m[:, 2]], 1)
    assert np.linalg.norm(back_m - upright.points_m, axis=1).mean() < 0.01
    assert abs(after.size_px / region.size_px - 1) < 0.2


def test_many_people_go_through_in_turns(pose: BlazePose) -> None:
    (image,) = frames("demo_one", [30])
    region, _ = pose.detect(image)[0]
    moved = [Region((region.center_px[0] + 5 * i, region.center_px[1]), region.size_px) for i in range(3)]
    together = pose.landmarks(image, moved)
    for one, (landmarks, _) in zip(moved, together, strict=True):
        alone = pose.landmarks(image, [one])[0][0]
        np.testing.assert_allclose(landmarks.points_px, alone.points_px, atol=0.05)
    assert pose.landmarks(image, []) == []


def test_the_reference_is_closed_by_hand_and_never_by_the_garbage_collector(store: Path) -> None:
    left = weakref.ref(MediaPipeReference(1, "image"))
    gc.collect()
    reference = left()
    assert reference is not None  # MediaPipe may wait forever where a collector closes it
    reference.close()
    reference.close()
    del reference
    gc.collect()
    assert left() is None


def test_the_reference_says_what_it_expects(store: Path) -> None:
    with pytest.raises(ValueError, match="video or image"):
        MediaPipeReference(1, "movie")  # type: ignore[arg-type]
