"""Shows a stream live in a browser: people on the floor, the camera with its picture, and its calibration.

    python run_stream.py --source 0 --viewer            starts this beside the stream, with pictures and buttons
    python -m bridges.viewer                            for a stream that runs already

It is bound to this machine. To look from another one: ssh -L 8080:127.0.0.1:8080 HOST. Pages of other sites are
refused: a browser lets any page open a WebSocket to this machine, and this one carries the camera's picture.
"""

from __future__ import annotations

import argparse
import logging
import re
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import zmq

from bridges.feed import add_feed_options, bridge_parser, exit_status, run_bridge
from bridges.items import Item
from pipeline import curve
from pipeline.messages import PoseMessage, StatusMessage
from pipeline.viewer_link import Picture

log = logging.getLogger(__name__)

PROG = "python -m bridges.viewer"
HOST, PORT = "127.0.0.1", 8080
LOCAL_PAGE = re.compile(r"https?://(127\.0\.0\.1|localhost|\[::1\])(:\d+)?")
SHOW_EVERY_S, PANEL_EVERY_S = 1.0 / 33.0, 0.5
GONE_AFTER_S = 1.5


class Pictures:
    """The newest picture of the stream, asked for only while somebody looks; a context manager."""

    def __init__(self, address: str, curve_keys: Path | None = None) -> None:
        """Raises ValueError for an address or keys that cannot be used."""
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(zmq.SUB)
        self._socket.linger, self._socket.conflate = 0, True
        self._wanted = False
        try:
            if curve_keys is not None:
                curve.secure_client(self._socket, curve_keys)
            self._socket.connect(address)
        except zmq.ZMQError as error:
            self.close()
            raise ValueError(f"--pictures {address}: expected an address of a stream ({error.strerror}).") from error
        except BaseException:
            self.close()
            raise

    def want(self, wanted: bool) -> None:
        """Begins or ends to ask for pictures."""
        if wanted != self._wanted:
            self._wanted = wanted
            (self._socket.subscribe if wanted else self._socket.unsubscribe)("picture/")

    def newest(self) -> Picture | None:
        """One that has not been given yet, or None."""
        if not int(self._socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
            return None
        try:
            return msgspec.msgpack.decode(self._socket.recv().partition(b"\0")[2], type=Picture)
        except msgspec.MsgspecError as error:
            log.warning("A picture could not be read: %s", error)
            return None

    def close(self) -> None:
        """Frees the socket."""
        self._socket.close()
        self._context.term()

    def __enter__(self) -> Pictures:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class LiveViewer:
    """Takes the feed's items and shows them; does next to nothing while nobody looks."""

    def __init__(self, server: Any, pictures: Pictures | None, control: str | None, curve_keys: Path | None) -> None:
        from bridges.viewer_latency import Ages
        from bridges.viewer_panel import Panel
        from bridges.viewer_scene import Scene

        self._server, self._pictures = server, pictures
        self._scene, self._ages = Scene(server), Ages()
        self._panel = Panel(server, control, curve_keys)
        self._status: StatusMessage | None = None
        self._next_s = self._next_panel_s = 0.0
        server.on_client_connect(lambda client: self._panel.look())

    def handle(self, item: Item) -> None:
        """Takes one item of the feed."""
        looking = bool(self._server.get_clients())
        if self._pictures is not None:
            self._pictures.want(looking)
        if isinstance(item.message, StatusMessage):
            self._status = item.message
        now = time.monotonic()
        if not looking or not isinstance(item.message, PoseMessage) or now < self._next_s:
            return
        self._next_s = now + SHOW_EVERY_S
        self._scene.show(item.message)
        self._ages.add(item.message)
        picture = None if self._pictures is None else self._pictures.newest()
        if picture is not None and picture.jpeg:
            self._scene.picture(picture.jpeg)
        if now >= self._next_panel_s:
            self._next_panel_s = now + PANEL_EVERY_S
            self._panel.update(item.message, self._status, self._ages)

    def silence(self, seconds: float) -> None:
        """Nothing has come for so long."""
        if seconds > GONE_AFTER_S:
            self._scene.clear()
            self._panel.silent(seconds)


@contextmanager
def local_server(port: int) -> Iterator[Any]:
    """A viser server on this machine's loopback that pages of other sites cannot talk to.

    Raises ImportError without viser, OSError when the port is in use.
    """
    try:
        import rich
        import viser
        from viser.infra import _infra
    except ImportError as error:
        raise ImportError(f"The viewer needs viser ({error}): pip install viser==1.1.1") from error
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, sys.platform != "win32")
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise OSError(f"Port {port} is in use by another program: type --viewer {port + 1}, or --port.") from error
    rich.get_console().quiet = True
    logging.getLogger("websockets").setLevel(logging.WARNING)
    # viser has no option for it, and serves on a thread that looks this name up when it starts
    serving = _infra.websockets.asyncio.server
    serve = serving.serve
    serving.serve = partial(serve, origins=[None, LOCAL_PAGE])  # type: ignore[misc, assignment]
    try:
        server = viser.ViserServer(host=HOST, port=port, label="W-HMR stream", verbose=False)
    finally:
        serving.serve = serve  # type: ignore[misc]
    try:
        yield server
    finally:
        server.stop()


def _parser() -> argparse.ArgumentParser:
    example = f"{PROG} --connect tcp://127.0.0.1:5556 --control tcp://127.0.0.1:5557"
    parser = bridge_parser(PROG, "Show a stream live in a browser of this machine.", example)
    add_feed_options(parser)
    group = parser.add_argument_group("viewer")
    group.add_argument("--port", type=int, default=PORT, metavar="PORT", help="of the page, default %(default)s")
    group.add_argument("--control", metavar="ADDRESS", help="the stream's --control, for the buttons")
    group.add_argument("--pictures", metavar="ADDRESS", help="where the stream sends pictures; --viewer sets it")
    group.add_argument("--while-stdin", action="store_true", help="end when standard input does; --viewer sets it")
    return parser


def run(options: argparse.Namespace, stop: threading.Event) -> None:
    """Serves the page until `stop` is set; raises ValueError, OSError or ImportError for what cannot be used."""
    if options.while_stdin:
        threading.Thread(target=_stop_at_end, args=(stop,), name="stdin", daemon=True).start()
    with ExitStack() as stack:
        pictures = stack.enter_context(Pictures(options.pictures, options.curve_keys)) if options.pictures else None
        server = stack.enter_context(local_server(options.port))
        viewer = LiveViewer(server, pictures, options.control, options.curve_keys)
        log.info("Open http://%s:%d in a browser.", HOST, server.get_port())
        run_bridge(options, viewer.handle, stop, ("pose", "status"), newest_only=True, on_silence=viewer.silence)


def _stop_at_end(stop: threading.Event) -> None:
    while sys.stdin.buffer.read(4096):
        pass
    stop.set()


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    options = _parser().parse_args(arguments)
    return exit_status(options, PROG, partial(run, options, threading.Event()))


if __name__ == "__main__":
    sys.exit(main())
