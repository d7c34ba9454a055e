"""The stream with W-HMR's recovery: made-up weights through real engines, and a network that is always right."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

import run_stream
from calibration_cache.files import calibration_from_focal
from calibration_cache.store import CalibrationStore
from engines.whmr import checkpoint, geometry, prepare, store
from engines.whmr.live import WhmrEngines
from pipeline.body import BodyModel
from pipeline.calibration import Calibrator
from pipeline.calibration_unknown import ESTIMATOR as BUNDLE
from pipeline.calibration_unknown import pinhole
from pipeline.clock import StageClock
from pipeline.frames import R_WORLD_LEVEL_CAMERA, R_world_camera_from_up, angle_between, exp_so3, project
from pipeline.messages import PoseMessage, decode, encode, pose_message
from pipeline.options import parser
from pipeline.smoothing import PoseSmoother
from pipeline.source import open_source
from pipeline.stream import Stream
from pipeline.types import CalibrationStatus, CameraCalibration, Detection, Frame, FrameResult
from pipeline.whmr_body import body_of
from pipeline.whmr_calibration import ESTIMATOR, LEAST_FOCAL, LEAST_UP_RAD, WhmrCalibrator
from pipeline.whmr_geometry import R_camera_level, focal_px, translations, up_camera
from pipeline.whmr_orientation import NetworkOrientation
from pipeline.whmr_recovery import OUTSIDE, OrientedBody, WhmrRecovery
from tests.support.program import Listener, Program, run
from tests.support.whmr import engines_store

SIZE_WH = (1280, 720)
ONE, TWO = (420.0, 150.0, 700.0, 640.0), (800.0, 120.0, 1010.0, 655.0)
CUT = (-260.0, 100.0, 160.0, 760.0)


@pytest.fixture(scope="module")
def engines_dir() -> Path:
    return engines_store()


@pytest.fixture(scope="module")
def network(engines_dir: Path) -> Iterator[WhmrEngines]:
    engines = WhmrEngines.open(store.SYNTHETIC, folder=engines_dir, threads=1)
    yield engines
    engines.close()


@pytest.fixture(scope="module")
def body(network: WhmrEngines) -> BodyModel:
    return body_of(network.smpl, "synthetic")


@pytest.fixture(scope="module")
def frames() -> list[Frame]:
    with open_source("demo") as source:
        return [frame for frame, _ in zip(source.frames(), range(4), strict=False)]


def detections(*boxes: tuple[float, ...]) -> tuple[Detection, ...]:
    return tuple(Detection(np.array(box), 0.9, i + 1) for i, box in enumerate(boxes))


def stream_of(network: WhmrEngines, *boxes: tuple[float, ...], options: tuple[str, ...] = ()) -> Stream:
    """The program's own stream, with boxes in place of a detector."""

    def detect(frame: Frame, clock: StageClock) -> tuple[Detection, ...]:
        return detections(*boxes)

    chosen = parser().parse_args(["--source", "demo", *options])
    with open_source("demo") as source:
        return run_stream.open_stream(chosen, source, detect, body_of(network.smpl, "synthetic"), network)


def wire(result: FrameResult) -> bytes:
    """The message of a result, its times left out."""
    message = pose_message(dataclasses.replace(result, stages_ms={}, t_grab_ns=0), 0, 0)
    return encode("pose", message)


def test_angles_are_the_networks():
    for pitch, roll in ((0.3, -0.2), (-0.5, 0.4), (0.0, 0.0), (0.6, 0.6)):
        R = geometry.camera_rotation(torch.tensor(pitch), torch.tensor(roll)).double().numpy()
        np.testing.assert_allclose(R_camera_level(up_camera(pitch, roll)), R, atol=1e-6)
        np.testing.assert_allclose(up_camera(pitch, roll), -R[:, 1], atol=1e-6)
        # the camera's heading is the world's, but for what pitch and roll together turn
        R_world_level = R_world_camera_from_up(up_camera(pitch, roll)) @ R
        np.testing.assert_allclose(R_world_level[1], [0, -1, 0], atol=1e-6)
        assert pitch * roll or angle_between(R_world_level, R_WORLD_LEVEL_CAMERA) < 1e-6


def test_at_its_own_focal_length_a_translation_is_the_networks():
    rng = np.random.default_rng(0)
    cam = np.column_stack([rng.uniform(0.5, 1.2, 5), rng.normal(0, 0.1, (5, 2))])
    boxes = np.column_stack([rng.uniform(100, 600, (5, 2)), rng.uniform(100, 600, 5), np.tile([1280.0, 720.0], (5, 1))])
    Tz = rng.uniform(1, 9, 5)
    theirs = geometry.camera_translation(*(torch.from_numpy(a) for a in (cam, boxes, Tz))).numpy()
    for i, focal in enumerate(focal_px(cam[:, 0], boxes[:, 2], Tz)):
        calibration = dataclasses.replace(
            calibration_from_focal("c", SIZE_WH, focal), K=[[focal, 0, 640], [0, focal, 360], [0, 0, 1]]
        )
        np.testing.assert_allclose(translations(cam[[i]], boxes[[i]], calibration)[0], theirs[i], atol=1e-9)


def test_the_demo_gives_the_same_messages_twice_and_they_decode(network, body, frames):
    runs = []
    for _ in range(2):
        stream = stream_of(network, ONE)
        runs.append([stream.process(frame) for frame in frames])
    assert [wire(r) for r in runs[0]] == [wire(r) for r in runs[1]]
    for result in runs[0]:
        (person,) = result.people
        _, message = decode(wire(result))
        assert isinstance(message, PoseMessage)
        assert message.calibration.status == "calibrating"
        np.testing.assert_allclose(message.people[0].joints_camera_m, person.camera.joints_camera_m, atol=1e-5)
        assert result.calibration.estimator == ESTIMATOR
        for pose, R, t, joints in (
            (person.camera, person.camera.R_camera_root, person.camera.t_camera_root, person.camera.joints_camera_m),
            (person.world, person.world.R_world_root, person.world.t_world_root, person.world.joints_world_m),
        ):
            posed = body.shaped(pose.betas).posed(R, t, pose.Rs_parent_joint)
            np.testing.assert_allclose(joints, posed.joints, atol=1e-6)


def test_the_body_is_the_networks_own(network, body, frames):
    out = network.people(frames[0].image, [ONE], np.eye(3))
    Rs, betas = out["Rs"][0].astype(float), out["betas"][0].astype(float)
    posed = body.shaped(betas).posed(Rs[0], out["joints"][0, 0].astype(float), Rs[1:])
    np.testing.assert_allclose(posed.joints, out["joints"][0], atol=1e-4)
    np.testing.assert_allclose(body.shaped(betas).joints_rest[0], out["joints"][0, 0], atol=1e-4)


def test_local_poses_and_world_roots_are_the_networks(network, body, frames):
    recovery, calibration = WhmrRecovery(network, body), calibrated(up_camera(0.2, 0.1), 900.0)
    recovery.see(frames[0])
    (person,) = recovery(detections(ONE), calibration)
    out = network.people(frames[0].image, [ONE], R_camera_level(calibration.up_camera))
    assert person is not None
    np.testing.assert_allclose(person.Rs_parent_joint, out["Rs"][0, 1:], atol=1e-5)
    np.testing.assert_allclose(person.R_camera_root, out["Rs"][0, 0], atol=1e-5)
    (world,) = NetworkOrientation()([person], calibration, [1], 0.0)
    level = calibration.R_world_camera @ R_camera_level(calibration.up_camera)
    np.testing.assert_allclose(world.R_world_root, level @ out["R_level_root"][0], atol=1e-5)
    np.testing.assert_allclose(world.Rs_parent_joint, person.Rs_parent_joint)


def test_people_of_one_batch_are_as_each_alone(network, frames):
    boxes = [ONE, TWO, CUT]
    together = network.people(frames[0].image, boxes, np.eye(3))
    for i, box in enumerate(boxes):
        for name, alone in network.people(frames[0].image, [box], np.eye(3)).items():
            np.testing.assert_allclose(together[name][i], alone[0], atol=2e-3, err_msg=name)


def test_several_nobody_half_a_person_and_another_size(network, frames):
    results = [stream_of(network, ONE, TWO).process(frames[0])]
    assert [p.track_id for p in results[0].people] == [1, 2]
    nobody = stream_of(network).process(frames[0])
    assert nobody.people == ()
    assert nobody.calibration.status is CalibrationStatus.CALIBRATING
    stream = stream_of(network, CUT, (-300.0, 100.0, -20.0, 600.0))
    (cut,) = stream.process(frames[0]).people
    assert cut.track_id == 1
    assert np.isfinite(cut.camera.joints_camera_m).all()
    assert cut.camera.confidence.min() == pytest.approx(0.9 * OUTSIDE)
    small = dataclasses.replace(frames[1], image=cv2.resize(frames[1].image, (640, 360)))
    result = stream.process(small)
    assert result.calibration.size_wh == (640, 360)
    assert [p.track_id for p in result.people] == [1]


def test_height_fixes_the_size(network, body, frames):
    recovery = WhmrRecovery(network, body, 1.5)
    recovery.see(frames[0])
    (person,) = recovery(detections(ONE), calibrated(up_camera(0.1, 0.0), 900.0))
    assert person is not None
    assert body.shaped(person.betas).height_m == pytest.approx(1.5)
    assert recovery.metric_scale(1) == pytest.approx(1.5 / body.shaped(network_betas(network, frames[0])).height_m)
    recovery.keep_only(set())
    assert recovery.metric_scale(1) == 1.0


def network_betas(network: WhmrEngines, frame: Frame) -> np.ndarray:
    out = network.people(frame.image, [ONE], R_camera_level(up_camera(0.1, 0.0)))
    return out["betas"][0].astype(float)


def test_without_its_picture_it_says_so(network, body):
    with pytest.raises(ValueError, match="picture: expected one of 1280x720, got none"):
        WhmrRecovery(network, body)(detections(ONE), calibrated(up_camera(0.1, 0.0), 900.0))


# A network that is right: what comes out of the stream must then be the truth.

FOCAL, PITCH, ROLL, HEIGHT = 1100.0, 0.25, -0.08, 1.7
R_ROOT = exp_so3([0.0, 0.4, 0.0])


class Right:
    """Two people who stand on the floor before a known camera, as a network without errors would see them."""

    def __init__(self, body: BodyModel, vfov: float = 2 * math.atan(SIZE_WH[1] / 2 / FOCAL)) -> None:
        self.calls = 0
        self._body, self._vfov = body, vfov
        up = up_camera(PITCH, ROLL)
        self.R_world_camera = R_world_camera_from_up(up)
        self.R_level = R_camera_level(up)
        self.places = np.array([[-0.6, 0.0, -4.0], [0.9, 0.0, -5.0]])
        shaped = body.shaped(np.zeros(10))
        feet = shaped.joints_rest[[7, 8, 10, 11], 1] - np.array([0.08, 0.08, 0.03, 0.03])
        self.places[:, 1] = shaped.joints_rest[0, 1] - feet.min()
        self.roots = (self.places - [0.0, HEIGHT, 0.0]) @ self.R_world_camera
        Rs = np.broadcast_to(np.eye(3), (2, 23, 3, 3))
        R_camera_root = self.R_world_camera.T @ R_ROOT
        self.Rs = np.concatenate([np.tile(R_camera_root, (2, 1, 1, 1)), Rs], axis=1)
        self.joints = shaped.posed(self.Rs[:, 0], self.roots, Rs).joints
        self.J0 = shaped.joints_rest[0]
        px = project(self.joints, pinhole(FOCAL, SIZE_WH))
        self.boxes = [(*p.min(0) - 20, *p.max(0) + 20) for p in px]

    def camera(self, image: np.ndarray) -> tuple[float, float, float]:
        self.calls += 1
        return self._vfov, PITCH, ROLL

    def people(self, image, boxes_xyxy, R_camera_level):
        n = len(boxes_xyxy)
        box = np.asarray(boxes_xyxy)
        centre, side = (box[:, :2] + box[:, 2:]) / 2, (box[:, 2:] - box[:, :2]).max(1)
        t = self.roots[:n] - self.J0
        offset = t[:, :2] - (centre - pinhole(FOCAL, SIZE_WH)[:2, 2]) / FOCAL * t[:, 2:]
        return {
            "boxes": np.column_stack([centre, side, np.tile(SIZE_WH, (n, 1))]),
            "Rs": self.Rs[:n], "betas": np.zeros((n, 10)), "Tz": t[:, 2],
            "cam": np.column_stack([2 * FOCAL / (side * t[:, 2]), offset]),
            "joints": self.joints[:n] - self.roots[:n, None] + self.J0,
            "R_level_root": np.tile(self.R_level.T @ self.R_world_camera.T @ R_ROOT, (n, 1, 1)),
        }  # fmt: skip


def calibrated(up: np.ndarray, focal: float) -> CameraCalibration:
    return dataclasses.replace(
        calibration_from_focal("c", SIZE_WH, focal), R_world_camera=R_world_camera_from_up(up),
        gravity_spread_rad=0.01, status=CalibrationStatus.CALIBRATED,
    )  # fmt: skip


def watch(right: Right, body: BodyModel, seconds: float, initial: CameraCalibration | None = None) -> list[FrameResult]:
    recovery = WhmrRecovery(right, body)

    def calibrator_for(camera_id: str, size_wh: tuple[int, int]) -> WhmrCalibrator:
        bundle = Calibrator(camera_id, size_wh, initial, recovery.metric_scale)
        return WhmrCalibrator(bundle, right.camera, recovery.take_sightings)

    def detect(frame: Frame, clock: StageClock) -> tuple[Detection, ...]:
        return detections(*right.boxes)

    smoother = PoseSmoother(body, "off")
    stream = Stream(detect, calibrator_for, recovery, smoother, corrector=NetworkOrientation())
    image = np.zeros((*SIZE_WH[::-1], 3), np.uint8)
    times = [int(i * 1e8) for i in range(int(seconds * 10))]
    return [stream.process(Frame("c", i, t, t, t, image)) for i, t in enumerate(times)]


def test_who_is_right_is_believed(body):
    right = Right(body)
    results = watch(right, body, 20.0)
    first, last = results[0].calibration, results[-1].calibration
    assert first.status is CalibrationStatus.CALIBRATING
    assert last.status is CalibrationStatus.CALIBRATED
    assert abs(np.log(last.K[0, 0] / FOCAL)) < last.focal_spread / 2
    assert math.acos(last.up_camera @ up_camera(PITCH, ROLL)) < last.gravity_spread_rad
    assert last.camera_height_m == pytest.approx(HEIGHT, abs=2 * last.height_spread_m)
    assert right.calls == 4, "after 0, 2, 6 and 14 seconds"
    for person in results[-1].people:
        assert angle_between(person.world.R_world_root, R_ROOT) < np.radians(5)


def test_with_the_true_camera_bodies_stand_where_they_are(body):
    right = Right(body)
    truth = dataclasses.replace(
        calibration_from_focal("c", SIZE_WH, FOCAL), R_world_camera=right.R_world_camera, gravity_spread_rad=0.01,
        camera_height_m=HEIGHT, height_spread_m=0.01,
    )  # fmt: skip
    last = watch(right, body, 1.0, truth)[-1]
    assert right.calls == 0, "the vertical was given"
    assert last.calibration.status is CalibrationStatus.SUPPLIED
    for person, place, root in zip(last.people, right.places, right.roots, strict=True):
        np.testing.assert_allclose(person.world.t_world_root, place, atol=0.02)
        np.testing.assert_allclose(person.camera.t_camera_root, root, atol=1e-6)
        assert angle_between(person.world.R_world_root, R_ROOT) < 1e-3


def test_another_focal_length_moves_bodies_away_and_not_in_the_picture(body):
    right = Right(body)
    recovery = WhmrRecovery(right, body)
    for focal in (FOCAL, 2 * FOCAL):
        recovery.see(Frame("c", 0, 0, 0, 0, np.zeros((*SIZE_WH[::-1], 3), np.uint8)))
        calibration = calibrated(up_camera(PITCH, ROLL), focal)
        (person, _) = recovery(detections(*right.boxes), calibration)
        assert isinstance(person, OrientedBody)
        t, J0 = person.t_camera_root, right.J0
        assert (t - J0)[2] == pytest.approx((right.roots[0] - J0)[2] * focal / FOCAL)
        np.testing.assert_allclose((t - J0)[:2], (right.roots[0] - J0)[:2], atol=1e-9)
        said = recovery.take_sightings()
        np.testing.assert_allclose([s.focal_px for s in said], FOCAL)
        assert recovery.take_sightings() == []


def test_a_camera_is_remembered_for_this_recovery_alone(body, tmp_path):
    cache = CalibrationStore(tmp_path)
    first = watch(Right(body), body, 10.0)[-1].calibration
    cache.save(first)
    assert cache.load("c", SIZE_WH, BUNDLE) is None
    again = watch(Right(body), body, 10.0, cache.load("c", SIZE_WH, ESTIMATOR))
    assert again[0].calibration.status is CalibrationStatus.CALIBRATED
    last = again[-1].calibration
    assert last.focal_spread >= min(LEAST_FOCAL, first.focal_spread)
    assert last.gravity_spread_rad >= min(LEAST_UP_RAD, first.gravity_spread_rad)
    assert abs(np.log(last.K[0, 0] / FOCAL)) <= abs(np.log(first.K[0, 0] / FOCAL)) + 1e-3


def test_engines_are_kept_by_weights_and_markers(tmp_path):
    files = {name: tmp_path / f"{name}.safetensors" for name in ("a", "b", "c")}
    ids = torch.arange(67)
    for name, value, noted in (("a", 1.0, ids), ("b", 2.0, ids), ("c", 1.0, None)):
        checkpoint.save({"w": torch.tensor(value)}, files[name], noted)
    np.save(tmp_path / "other.npy", np.arange(67) + 1)
    keys = [store.key(files["a"]), store.key(files["b"]), store.key(files["a"], tmp_path / "other.npy")]
    assert len(set(keys)) == 3
    assert store.key(files["a"]) == keys[0]
    assert store.key(store.SYNTHETIC) == "synthetic"
    with pytest.raises(OSError, match="does not note the 67 marker vertices"):
        store.key(files["c"])


def test_engines_that_were_not_exported_say_how(engines_dir, tmp_path):
    assert prepare.ensure("synthetic", folder=engines_dir) == store.find("synthetic", store=engines_dir)
    with pytest.raises(
        OSError, match=r"exported yet\. Type: python -m engines\.whmr\.prepare --weights synthetic --st"
    ):
        store.find("synthetic", store=tmp_path)


def test_contradictions_widen_the_spread(body):
    agreed = watch(Right(body), body, 3.0)[-1].calibration
    wrong = watch(Right(body, vfov=1.6), body, 3.0)[-1].calibration
    assert wrong.focal_spread > 1.2 * agreed.focal_spread


def test_a_moved_camera_is_looked_at_again(body):
    right = Right(body)
    recovery = WhmrRecovery(right, body)
    calibrator = WhmrCalibrator(Calibrator("c", SIZE_WH), right.camera, recovery.take_sightings)
    frame = Frame("c", 0, 0, 0, 0, np.zeros((*SIZE_WH[::-1], 3), np.uint8))
    calibrator.see(frame)
    calibrator.update(0.0, ())
    assert calibrator.camera_moved(1.0).status is CalibrationStatus.MOVED
    calibrator.see(frame)
    calibrator.update(1.1, ())
    assert right.calls == 2


def test_the_program_publishes_what_it_made(engines_dir, frames, tmp_path):
    for frame in frames[:3]:
        cv2.imwrite(str(tmp_path / f"{frame.index:02}.png"), frame.image[..., ::-1])
    arguments = ("--recovery", "whmr", "--weights", "synthetic", "--engines", str(engines_dir), "--threads", "1")
    program = Program(tmp_path, "--source", str(tmp_path), *arguments, "--max-people", "1")
    with Listener(program.address) as listener, program:
        assert program.wait() == 0, program.errors
    assert [pose.index for pose in listener.poses] == [0, 1, 2]
    assert all(len(pose.people) == 1 for pose in listener.poses)
    assert listener.poses[-1].calibration.status == "calibrating"


MISTAKES = {
    "no weights": ((), "--recovery whmr: expected the network's weights, --weights FILE"),
    "no such weights": (("--weights", "{0}/none.pt"), "none.pt: there is no such file; expected w-hmr-p-vitpose"),
    "a text file": (("--weights", "{0}/text.pt"), "text.pt: expected a PyTorch or safetensors file"),
    "no markers": (("--weights", "{0}/zip.pt"), "it does not note the 67 marker vertices"),
    "no such markers": (("--weights", "{0}/zip.pt", "--markers", "{0}/none.npy"), "none.npy: there is no such file"),
    "too few markers": (("--weights", "{0}/zip.pt", "--markers", "{0}/few.npy"), "67 vertex numbers in 0..6889"),
    "a cut engine": (("--weights", "synthetic", "--engines", "{0}/cut"), "whmr_body.onnx is missing or cut"),
    "another body": (("--weights", "synthetic", "--body", "smpl=x.pkl"), "brings the body that is inside its weights"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_one_sentence(mistake, engines_dir, tmp_path, capsys):
    (tmp_path / "text.pt").write_text("these are no weights\n")
    torch.save({"model": {}}, tmp_path / "zip.pt")
    np.save(tmp_path / "few.npy", np.arange(5))
    cut = tmp_path / "cut" / store.SYNTHETIC
    cut.mkdir(parents=True)
    for file in (store.MANIFEST, store.BODY, "whmr_camera.onnx"):
        (cut / file).symlink_to(engines_dir / store.SYNTHETIC / file)
    (cut / "whmr_body.onnx").write_bytes(b"half of it")
    arguments, expected = MISTAKES[mistake]
    given = [a.format(tmp_path) for a in arguments]
    assert run_stream.main(["--source", "demo", "--recovery", "whmr", *given]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("run_stream.py: ")
    assert expected in said


def test_weights_are_for_whmr_and_auto_wants_a_gpu(capsys):
    assert run_stream.main(["--source", "demo", "--recovery", "landmark", "--weights", "w"]) == 2
    assert "expected --recovery whmr with them" in capsys.readouterr().err
    for given in (["--backend", "torch"], ["--precision", "fp16"]):
        assert run_stream.main(["--source", "demo", *given]) == 2
        assert f"{' '.join(given[: 1 + (given[0] == '--backend')])} is for whmr's networks" in capsys.readouterr().err
    done = run("-c", "from pipeline.options import *; print(recovery_of(parser().parse_args("
               "['--source', 'demo', '--weights', 'w'])), recovery_of(parser().parse_args("
               "['--source', 'demo', '--weights', 'w', '--device', 'cuda'])))")  # fmt: skip
    assert done.output.split() == ["landmark", "whmr"]
