"""The live viewer's panel: how the stream and its calibration are, and buttons that command the stream."""

from __future__ import annotations

import html
import math
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import viser
from viser import uplot

from bridges.viewer_latency import Ages
from pipeline.control import (
    Answer,
    Command,
    Look,
    Recalibrate,
    RecordStart,
    RecordStop,
    Save,
    SetFloor,
    SetPersonHeight,
    Smoothing,
    ask,
)
from pipeline.messages import Calibration, PoseMessage, StatusMessage
from pipeline.smoothing import LEVELS

NO_CONTROL = "The stream takes no commands: start it with --viewer, or with --control and this with --control ADDRESS."
_STATUS_COLORS = {"calibrated": "#2f9e6e", "supplied": "#2f9e6e", "calibrating": "#c98a1b", "moved": "#c9442f"}
_NAMES = tuple(LEVELS)


class Panel:
    """The page's controls. `update` from the viewer's thread; buttons work in threads of viser.

    control     the stream's --control address, or None: the buttons are grey then
    curve_keys  the client/ folder
    """

    def __init__(self, server: viser.ViserServer, control: str | None, curve_keys: Path | None = None) -> None:
        self._control, self._keys = control, curve_keys
        self._asking = threading.Lock()
        self._html: dict[str, str] = {}
        self._recording: str | None = None
        gui, off = server.gui, control is None
        gui.configure_theme(dark_mode=True, show_logo=False, show_share_button=False, brand_color=(86, 180, 233))
        gui.set_panel_label("W-HMR stream")
        self._stream = gui.add_html("")
        with gui.add_folder("Camera"):
            self._camera = gui.add_html("")
            self._on(
                gui.add_button("Recalibrate", disabled=off, hint="Forget this camera and start again"), Recalibrate
            )
            hint = "The floor is where those who stand now have their feet"
            self._on(gui.add_button("Set floor here", disabled=off, hint=hint), SetFloor)
            self._height = gui.add_number("Person (m)", 1.75, min=0.5, max=2.5, step=0.01, disabled=off)
            height = gui.add_button("Set person height", disabled=off, hint="Fixes the scale of everything")
            self._on(height, lambda: SetPersonHeight(float(self._height.value)))
            self._on(gui.add_button("Save", disabled=off, hint="Keep the calibration for the next start"), Save)
        with gui.add_folder("Motion"):
            marks = tuple((i, name) for i, name in enumerate(_NAMES))
            start = _NAMES.index("default")
            self._level = gui.add_slider("Smoothing", 0, len(_NAMES) - 1, 1, start, marks=marks, disabled=off)
            self._level.on_update(self._smooth)
            self._take = gui.add_text(
                "Take", "take-1", disabled=off, hint="Name of the recording, in the folder --takes"
            )
            self._record = gui.add_button("Record", disabled=off, color="red")
            self._record.on_click(lambda event: self._toggle_recording())
        self._answer = gui.add_html(_note(NO_CONTROL) if off else "")
        with gui.add_folder("Latency, capture to here"):
            empty = np.zeros(1)
            self._ages = gui.add_uplot(
                (empty, empty, empty),
                (uplot.Series(label="s"), uplot.Series(label="median ms", stroke="#56b4e9", width=2),
                 uplot.Series(label="worst ms", stroke="#e69f00", width=1)),
                scales={"x": uplot.Scale(time=False), "y": uplot.Scale(auto=True)}, aspect=2.2,
                axes=(uplot.Axis(stroke="#aab2bd"), uplot.Axis(stroke="#aab2bd")),
            )  # fmt: skip

    def update(self, message: PoseMessage, status: StatusMessage | None, ages: Ages) -> None:
        """Shows how things are; call it twice a second."""
        state, fps = (status.state, f"{status.fps:.1f}") if status else ("running", "?")
        rows = [("state", state), ("frames a second", fps), ("people", str(len(message.people))),
                ("dropped", str(message.dropped)), (f"{ages.since} to here", f"{ages.newest_ms:.0f} ms")]  # fmt: skip
        self._put("stream", self._stream, _table(rows))
        self._put("camera", self._camera, _table(calibration_rows(message.calibration)))
        self._ages.data = ages.curves()

    def silent(self, seconds: float) -> None:
        """Says that nothing comes."""
        self._put("stream", self._stream, _note(f"Nothing came for {seconds:.0f} s."))

    def look(self) -> None:
        """Asks the stream how things stand."""
        if self._control is not None:
            self._tell(Look(), quiet=True)

    def _put(self, name: str, handle: viser.GuiHtmlHandle, content: str) -> None:
        if self._html.get(name) != content:
            self._html[name] = handle.content = content

    def _on(self, button: viser.GuiButtonHandle, command: Callable[[], Command]) -> None:
        button.on_click(lambda event: self._tell(command()))

    def _smooth(self, event: viser.GuiEvent[viser.GuiSliderHandle[int]]) -> None:
        if event.client is not None:
            self._tell(Smoothing(_NAMES[int(self._level.value)]))  # type: ignore[arg-type]

    def _toggle_recording(self) -> None:
        self._tell(RecordStop() if self._recording else RecordStart(self._take.value.strip()))

    def _tell(self, command: Command, quiet: bool = False) -> None:
        if self._control is None:
            return
        with self._asking:
            answer = ask(self._control, command, curve_keys=self._keys)
        if not quiet or not answer.ok:
            self._answer.content = _note(
                f"{time.strftime('%H:%M:%S')} {answer.says}", "#2f9e6e" if answer.ok else "#c9442f"
            )
        self._take_over(answer)

    def _take_over(self, answer: Answer) -> None:
        if answer.state is None:
            return
        self._recording = answer.state.recording
        self._record.label = f"Stop {self._recording}" if self._recording else "Record"
        level = _NAMES.index(answer.state.smoothing)
        if self._level.value != level:
            self._level.value = level  # type: ignore[misc]


def calibration_rows(c: Calibration) -> list[tuple[str, str]]:
    """Names and values of a calibration, with spreads, in units that people read."""
    color = _STATUS_COLORS.get(c.status, "#7a828e")
    badge = (
        f'<span style="background:{color};color:#fff;border-radius:4px;padding:1px 7px">{html.escape(c.status)}</span>'
    )
    fov = math.degrees(2.0 * math.atan2(c.size_wh[0] / 2.0, float(c.K[0, 0])))
    focal = "?" if c.focal_spread is None else f"{100 * c.focal_spread:.0f} %"
    gravity = "?" if c.gravity_spread_rad is None else f"{math.degrees(c.gravity_spread_rad):.1f}°"
    height, of_height = c.camera_height_m, "?" if c.height_spread_m is None else f"{c.height_spread_m:.2f} m"
    return [
        ("status", badge),
        ("focal length", f"{c.focal_px:.0f} px ± {focal}"),
        ("across", f"{fov:.0f}°"),
        ("pitch (down)", f"{math.degrees(c.pitch_rad):.1f}° ± {gravity}"),
        ("roll", f"{math.degrees(c.roll_rad):.1f}° ± {gravity}"),
        ("height", "unknown" if height is None else f"{height:.2f} m ± {of_height}"),
        ("samples", str(c.n_samples)),
    ]


def _table(rows: list[tuple[str, str]]) -> str:
    cells = "".join(
        f'<tr><td style="opacity:.65;padding:1px 0">{name}</td><td style="text-align:right">{value}</td></tr>'
        for name, value in rows
    )
    return f'<table style="width:100%;font-size:13px;padding:2px 14px;border-spacing:0">{cells}</table>'


def _note(text: str, color: str = "#7a828e") -> str:
    style = f"font-size:13px;margin:6px 14px;padding:5px 9px;border-left:3px solid {color}"
    return f'<div class="answer" style="{style}">{html.escape(text)}</div>'
