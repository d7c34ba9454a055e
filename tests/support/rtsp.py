"""Starts, freezes and kills the RTSP server of `rtsp_server.py`."""

from __future__ import annotations

import select
import signal
import socket
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.videos import Image

SYSTEM_PYTHON = Path("/usr/bin/python3")
_SERVER = Path(__file__).with_name("rtsp_server.py")
_CHECK = (
    "import gi; gi.require_version('Gst', '1.0'); gi.require_version('GstApp', '1.0');"
    "gi.require_version('GstRtspServer', '1.0'); from gi.repository import Gst, GstApp, GstRtspServer; Gst.init(None);"
    "raise SystemExit([n for n in ('x264enc', 'rtph264pay', 'videotestsrc', 'avdec_h264')"
    " if not Gst.ElementFactory.find(n)] or 0)"
)


def why_no_server() -> str:
    """The reason why no RTSP server can be had here; empty when one can."""
    if not SYSTEM_PYTHON.exists():
        return "needs Debian's /usr/bin/python3 with GStreamer"
    check = subprocess.run([SYSTEM_PYTHON, "-c", _CHECK], capture_output=True, timeout=30, check=False)
    if check.returncode == 0:
        return ""
    return (
        "needs apt-get install python3-gi gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-base "
        "gstreamer1.0-plugins-good gstreamer1.0-plugins-ugly gstreamer1.0-libav"
    )


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class RtspServer:
    """A server process on 127.0.0.1; a context manager that leaves no process."""

    def __init__(self, *options: str, port: int | None = None) -> None:
        self.port = port or free_port()
        self._options = options
        self._process: subprocess.Popen[str] | None = None
        self.start()

    def url(self, credentials: str = "", path: str = "/cam") -> str:
        """The address of the stream, `credentials` as user:password."""
        return f"rtsp://{credentials}{'@' * bool(credentials)}127.0.0.1:{self.port}{path}"

    def start(self) -> None:
        """Starts the process (again) and waits until it listens."""
        command = [str(SYSTEM_PYTHON), str(_SERVER), str(self.port), *self._options]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert self._process.stdout is not None
        ready = select.select([self._process.stdout], [], [], 20.0)[0] and self._process.stdout.readline() == "ready\n"
        if not ready:
            self.kill()
            raise RuntimeError(f"the RTSP server did not start on port {self.port}")

    def freeze(self) -> None:
        """Stops it from doing anything, its connections stay open."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Lets it go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """Ends the process at once, frozen or not."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            if self._process.stdout is not None:
                self._process.stdout.close()
            self._process = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()


def stamped_ms(image: Image) -> int:
    """The wall clock in milliseconds modulo 2**32 that the server drew into a picture."""
    cell = image.shape[1] // 32
    return sum(
        1 << bit for bit in range(32) if image[8:24, bit * cell + cell // 4 : bit * cell + cell // 2].mean() > 128
    )
