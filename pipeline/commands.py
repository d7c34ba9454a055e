"""What each command of `pipeline.control` does in a running stream."""

from __future__ import annotations

import argparse
import logging
import re
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path

from pipeline.control import (
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
)
from pipeline.stream import Sink, Stream
from pipeline.takes import Takes
from pipeline.viewer_link import PictureSink, ViewerProcess, client_keys, local_address, private_folder

log = logging.getLogger(__name__)


class Commands:
    """Applies commands to one stream, between two of its frames.

    smoothing  the level it was started with
    """

    def __init__(self, stream: Stream, takes: Takes, smoothing: str) -> None:
        self._stream, self._takes, self._smoothing = stream, takes, smoothing

    @property
    def state(self) -> State:
        """How things stand."""
        return State(smoothing=self._smoothing, recording=self._takes.name)

    def apply(self, command: Command) -> str:
        """Does it; one sentence on what was done. Raises ValueError or OSError with one on why it was not."""
        match command:
            case Look():
                return "Here."
            case Recalibrate():
                forgotten = self._stream.recalibrate()
                kept = f" {forgotten} stored calibration{'s' * (forgotten != 1)} of it removed." if forgotten else ""
                return f"Calibrating again from nothing.{kept}"
            case SetFloor():
                return self._set_floor()
            case SetPersonHeight(height_m):
                self._stream.set_person_height(height_m)
                return f"People are {height_m:.2f} m tall now."
            case Save():
                return f"Saved the calibration to {self._stream.save()}."
            case Smoothing(level):
                self._stream.set_smoothing(level)
                self._smoothing = level
                return f"Smoothing is {level} now."
            case RecordStart(name):
                return f"Recording to {self._takes.start(name)}."
            case RecordStop():
                path, frames = self._takes.stop()
                return f"Recorded {frames} frames to {path}."
        raise ValueError(f"{type(command).__name__}: this program does not know that command.")

    def _set_floor(self) -> str:
        if self._smoothing == "off":
            raise ValueError(
                "Feet on the floor are not followed while smoothing is off: turn it on, then set the floor."
            )
        calibration = self._stream.set_floor()
        if calibration is None:
            raise ValueError("Nobody's feet are seen to stand still on the floor: stand in view and try again.")
        return (
            f"The floor is under these feet now: the camera is {calibration.camera_height_m:.2f} ± "
            f"{calibration.height_spread_m:.2f} m above it."
        )


def open_commands(
    options: argparse.Namespace, stream: Stream, camera_id: str, published: str, stack: ExitStack
) -> tuple[list[Sink], Callable[[], None]]:
    """What --control and --viewer ask for: sinks, and what to call between two frames.

    `published` is the address that poses are published at. Raises ValueError or OSError for addresses and keys that
    cannot be used.
    """
    if options.control is None and options.viewer is None:
        return [], lambda: None
    folder, keys = Path(stack.enter_context(private_folder())), options.curve_keys
    takes = stack.enter_context(closing(Takes(options.takes)))
    commands = Commands(stream, takes, options.smoothing)
    address = options.control or local_address(folder, "control")
    control = stack.enter_context(ControlServer(address, commands.apply, lambda: commands.state, keys))
    if options.control is not None:
        log.info("%s: commands on %s", camera_id, control.address)
    sinks: list[Sink] = [takes]
    if options.viewer is not None:
        client = client_keys(keys)
        pictures = stack.enter_context(closing(PictureSink(camera_id, local_address(folder, "pictures"), keys)))
        connect = re.sub(r"//0\.0\.0\.0:", "//127.0.0.1:", published)
        viewer = ViewerProcess(options.viewer, connect, camera_id, pictures.address, control.address, client)
        sinks += [pictures, stack.enter_context(closing(viewer))]
    return sinks, control.serve
