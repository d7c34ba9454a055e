"""Commands into a running stream: what each changes, what is refused, and who may give them."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import msgspec
import numpy as np
import pytest
import zmq

import run_stream
from calibration_cache.store import CalibrationStore
from pipeline import control, curve
from pipeline.body import open_body
from pipeline.commands import Commands
from pipeline.control import (
    Answer,
    Command,
    ControlServer,
    Look,
    Recalibrate,
    RecordStart,
    RecordStop,
    Save,
    SetFloor,
    SetPersonHeight,
    Smoothing,
    State,
    ask,
)
from pipeline.options import parser
from pipeline.source import Source, open_source
from pipeline.stream import Stream
from pipeline.takes import Takes
from pipeline.types import CalibrationStatus, FrameResult
from tests.support.program import load

STANDS = 60  # frames of the demo after which it is calibrated and somebody stands


class Live:
    """A real stream on the demo clip, and a socket that takes commands between its frames."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        options = parser().parse_args(["--source", "demo", "--calibration-dir", str(folder / "cache")])
        self.store = CalibrationStore(options.calibration_dir)
        self.source: Source = stack.enter_context(open_source("demo", camera_id="demo-one"))
        detector = run_stream.open_detector(options, stack)
        self.stream: Stream = run_stream.open_stream(options, self.source, detector, open_body("default"))
        self.takes = stack.enter_context(closing(Takes(folder / "takes")))
        commands = Commands(self.stream, self.takes, options.smoothing)
        address = f"ipc://{folder / 'control'}"
        self.server = stack.enter_context(ControlServer(address, commands.apply, lambda: commands.state))
        self.results: list[FrameResult] = []

    @property
    def last(self) -> FrameResult:
        """The newest result."""
        return self.results[-1]

    def play(self, frames: int) -> FrameResult:
        """Goes on for so many frames; the last result."""
        for _ in range(frames):
            frame = self.source.read(5.0)
            assert frame is not None
            self.results.append(self.stream.process(frame))
            self.takes(frame, self.last)
        return self.last

    def tell(self, command: Command) -> Answer:
        """Gives a command through the socket, as another program does."""
        answers: list[Answer] = []
        asking = threading.Thread(target=lambda: answers.append(ask(self.server.address, command)))
        asking.start()
        while asking.is_alive():
            self.server.serve()
            time.sleep(0.002)
        return answers[0]


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with ExitStack() as stack:
        yield Live(tmp_path_factory.mktemp("live"), stack)


def height_of(result: FrameResult) -> float:
    """Crown to sole of the first person's body, metres."""
    return float(open_body("default").shaped(result.people[0].world.betas).height_m)


def test_before_the_first_frame_there_is_nothing_to_save_or_to_stand_on(live: Live) -> None:
    assert live.tell(Look()) == Answer(True, "Here.", State("default"))
    saved, floor = live.tell(Save()), live.tell(SetFloor())
    assert (saved.ok, floor.ok) == (False, False)
    assert "expected a calibration that is calibrated, this one is uncalibrated" in saved.says
    assert "stand in view" in floor.says


def test_feet_define_the_floor_and_people_stay_on_it(live: Live) -> None:
    before = live.play(STANDS)
    answer = live.tell(SetFloor())
    assert answer.ok, answer.says
    after = live.play(1)
    calibration = after.calibration
    assert f"{calibration.camera_height_m:.2f}" in answer.says
    feet = after.people[0].camera.joints_camera_m[[7, 8, 10, 11]]
    below = calibration.camera_height_m + feet @ calibration.up_camera
    # ankles and balls are 3 and 8 cm over the soles, and one of the feet may be in the air
    assert -0.06 < (below - [0.08, 0.08, 0.03, 0.03]).min() < 0.06
    assert np.abs(after.people[0].world.t_world_root - before.people[0].world.t_world_root).max() < 0.15
    # later estimates do not move it but by what they change of the camera itself
    later = live.play(15).calibration
    points = live.stream._calibrator._shown.floor  # type: ignore[union-attr]
    assert points is not None
    assert later.camera_height_m == pytest.approx(points.given(later).camera_height_m, abs=0.02)


def test_a_known_height_scales_people_their_distance_and_the_camera(live: Live) -> None:
    before, tall = live.last, 2.0
    ratio = tall / height_of(before)
    assert live.tell(SetPersonHeight(tall)).says == "People are 2.00 m tall now."
    after = live.play(1)
    assert height_of(after) == pytest.approx(tall, abs=0.01)
    distances = [float(r.people[0].camera.t_camera_root[2]) for r in (before, after)]
    assert distances[1] / distances[0] == pytest.approx(ratio, rel=0.04)
    heights = [r.calibration.camera_height_m or 0.0 for r in (before, after)]
    assert heights[1] / heights[0] == pytest.approx(ratio, rel=0.04)
    assert height_of(live.play(20)) == pytest.approx(tall, abs=0.01)


def test_a_calibration_is_saved_and_forgotten_with_what_was_saved(live: Live) -> None:
    saved = live.tell(Save())
    path = live.store.path("demo-one", live.last.size_wh)
    assert saved.ok, saved.says
    assert str(path) in saved.says
    assert path.is_file()
    assert live.last.calibration.status is CalibrationStatus.CALIBRATED
    forgotten = live.tell(Recalibrate())
    assert forgotten.says == "Calibrating again from nothing. 1 stored calibration of it removed."
    assert not path.exists()
    fresh = live.play(1).calibration
    assert fresh.status is not CalibrationStatus.CALIBRATED
    assert fresh.n_samples <= 1


def test_smoothing_changes_from_one_frame_to_the_next(live: Live) -> None:
    def jitter(level: str) -> float:
        answer = live.tell(Smoothing(level))  # type: ignore[arg-type]
        assert answer.ok
        assert answer.state == State(level)
        live.play(3)
        roots = np.stack([live.play(1).people[0].world.t_world_root for _ in range(25)])
        return float(np.abs(np.diff(roots, n=2, axis=0)).mean())

    assert jitter("off") > 2.0 * jitter("high")
    assert live.tell(SetFloor()).ok or live.play(30)
    live.tell(Smoothing("off"))
    assert "while smoothing is off" in live.tell(SetFloor()).says
    live.tell(Smoothing("default"))


def test_recordings_start_and_end_while_it_runs(live: Live) -> None:
    started = live.tell(RecordStart("jump"))
    assert started.ok, started.says
    assert started.state == State("default", "jump.npz")
    live.play(5)
    assert "jump.npz is being recorded" in live.tell(RecordStart("other")).says
    stopped = live.tell(RecordStop())
    assert stopped.says.startswith("Recorded 5 frames to ")
    assert stopped.state == State("default")
    assert live.tell(RecordStop()).says == "Nothing is being recorded."
    live.takes.close()
    path = Path(started.says.removeprefix("Recording to ").removesuffix("."))
    assert load(path)["index"].tolist() == [r.index for r in live.results[-5:]]
    assert "exists already" in live.tell(RecordStart("jump")).says


@pytest.mark.parametrize(
    ("request_", "sentence"),
    [
        (b"\xff\x00", "This is no command"),
        (b"{}", "This is no command"),
        (b'{"command": "reboot"}', "Invalid value 'reboot'"),
        (b'{"command": "save", "to": "/etc/passwd"}', "unknown field `to`"),
        (b'{"command": "set_person_height", "height_m": 17.5}', "<= 2.5"),
        (b'{"command": "set_person_height", "height_m": "tall"}', "Expected `float`"),
        (b'{"command": "smoothing", "level": "very"}', "Invalid enum value 'very'"),
        (b'{"command": "record_start", "name": "../../etc/cron.d/x"}', "matching regex"),
        (b'{"command": "record_start", "name": ".hidden"}', "matching regex"),
    ],
)  # fmt: skip
def test_what_is_no_command_changes_nothing_and_is_answered(tmp_path: Path, request_: bytes, sentence: str) -> None:
    def never(command: Command) -> str:
        raise AssertionError(f"{command} was applied")

    server = ControlServer(f"ipc://{tmp_path}/c", never, lambda: State("low"))
    with server, zmq.Context() as context, context.socket(zmq.REQ) as socket:
        socket.linger = 0
        socket.connect(server.address)
        socket.send(request_)
        while not socket.poll(5):
            server.serve()
        answer = msgspec.json.decode(socket.recv(), type=Answer)
    assert not answer.ok
    assert sentence in answer.says
    assert answer.state == State("low")


@pytest.mark.parametrize("address", ["tcp://0.0.0.0:5557", "tcp://*:5557", "tcp://192.168.1.2:5557", "tcp://eth0:1"])
def test_no_other_machine_can_command(address: str) -> None:
    with pytest.raises(ValueError, match="expected an address of this machine only"):
        ControlServer(address, lambda command: "", lambda: State("off"))


def test_with_keys_only_those_who_have_one_are_heard(tmp_path: Path) -> None:
    curve.make_keys(tmp_path / "keys")
    heard: list[Command] = []

    def apply(command: Command) -> str:
        heard.append(command)
        return "Done."

    keys = tmp_path / "keys"
    with ControlServer("tcp://127.0.0.1:*", apply, lambda: State("off"), keys / "server") as server:
        stop = threading.Event()

        def serve() -> None:
            while not stop.wait(0.005):
                server.serve()

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            assert not ask(server.address, Save(), timeout_s=0.5).ok
            assert ask(server.address, Look(), curve_keys=keys / "client").says == "Done."
        finally:
            stop.set()
            thread.join()
    assert heard == [Look()]


def test_a_stream_that_is_not_there_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answer = ask(f"ipc://{tmp_path}/nobody", Look(), timeout_s=0.1)
    assert not answer.ok
    assert "is the stream running with --control?" in answer.says
    assert control.main(["smoothing", "very"]) == 2
    assert "Invalid enum value 'very'" in capsys.readouterr().err
    with pytest.raises(ValueError, match="plain name"):
        Takes(tmp_path).start("a/b")
