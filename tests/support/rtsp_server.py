#!/usr/bin/python3
"""A real RTSP server for tests, run by the system's Python: rtsp_server.py PORT [--video FILE] [--user U --password P].

With --digest the password is asked for by digest instead of basic authentication. Serves rtsp://127.0.0.1:PORT/cam
as live H.264, a moving pattern or FILE looped at 30 fps. The top 32 rows of every frame carry the wall clock: 32
cells, black or white, the bits of the time in milliseconds modulo 2**32, least significant on the left; so a reader
can measure the true age of a picture. Prints "ready" when it listens.

Needs Debian's python3-gi gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-{base,good,ugly} gstreamer1.0-libav.
"""

from __future__ import annotations

import argparse
import sys
import threading
import time
from pathlib import Path
from typing import Any

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstApp", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstApp, GstRtsp, GstRtspServer  # noqa: E402, F401

WIDTH, HEIGHT, FPS = 640, 480, 30
BAR_ROWS = 32
CAPS = f"video/x-raw,format=I420,width={WIDTH},height={HEIGHT},framerate={FPS}/1"
ENCODE = (
    f"( appsrc name=src is-live=true do-timestamp=true format=time caps={CAPS} "
    "! x264enc tune=zerolatency speed-preset=ultrafast key-int-max=15 bitrate=3000 "
    "! rtph264pay name=pay0 pt=96 config-interval=1 )"
)


def stamp(i420: bytes) -> bytes:
    """The frame with the wall clock drawn into its top rows."""
    milliseconds = time.time_ns() // 1_000_000 & 0xFFFFFFFF
    row = b"".join((b"\xeb" if milliseconds >> bit & 1 else b"\x10") * (WIDTH // 32) for bit in range(32))
    frame = bytearray(i420)
    frame[: BAR_ROWS * WIDTH] = row * BAR_ROWS
    luma, chroma = WIDTH * HEIGHT, WIDTH // 2 * (HEIGHT // 2)
    for start in (luma, luma + chroma):
        rows = BAR_ROWS // 2 * (WIDTH // 2)
        frame[start : start + rows] = b"\x80" * rows
    return bytes(frame)


class Pictures:
    """Raw I420 frames without end, pulled from a GStreamer pipeline that starts over when it ends."""

    def __init__(self, video: str | None) -> None:
        origin = f"uridecodebin uri={Path(video).resolve().as_uri()}" if video else "videotestsrc pattern=ball"
        self._pipeline = Gst.parse_launch(
            f"{origin} ! videoconvert ! videoscale ! videorate ! {CAPS} ! appsink name=sink sync=false max-buffers=2"
        )
        self._sink = self._pipeline.get_by_name("sink")
        self._pipeline.set_state(Gst.State.PLAYING)

    def next(self) -> bytes:
        sample = self._sink.try_pull_sample(5 * Gst.SECOND)
        if sample is None:
            self._pipeline.seek_simple(Gst.Format.TIME, Gst.SeekFlags.FLUSH, 0)
            sample = self._sink.try_pull_sample(5 * Gst.SECOND)
        if sample is None:
            raise RuntimeError("GStreamer decoded no picture: is the video readable, is gstreamer1.0-libav there?")
        buffer = sample.get_buffer()
        return bytes(buffer.extract_dup(0, buffer.get_size()))


class Live(GstRtspServer.RTSPMediaFactory):
    """Encodes the pictures at their own pace, once for all clients."""

    def __init__(self, pictures: Pictures) -> None:
        super().__init__()
        self._pictures = pictures
        self.set_shared(True)
        self.set_latency(0)
        self.set_launch(ENCODE)

    def do_configure(self, media: Any) -> None:
        source = media.get_element().get_child_by_name("src")
        stop = threading.Event()
        media.connect("unprepared", lambda _: stop.set())

        def feed() -> None:
            due = time.monotonic()
            while not stop.wait(max(0.0, due - time.monotonic())):
                due = max(due + 1 / FPS, time.monotonic() - 1 / FPS)
                picture = Gst.Buffer.new_wrapped(stamp(self._pictures.next()))
                if source.emit("push-buffer", picture) != Gst.FlowReturn.OK:
                    return

        threading.Thread(target=feed, daemon=True).start()


def protect(server: Any, factory: Any, user: str, password: str, digest: bool) -> None:
    """Lets only `user` with `password` see the stream."""
    token = GstRtspServer.RTSPToken()
    token.set_string("media.factory.role", "viewer")
    auth = GstRtspServer.RTSPAuth()
    if digest:
        auth.set_supported_methods(GstRtsp.RTSPAuthMethod.DIGEST)
        auth.add_digest(user, password, token)
    else:
        auth.add_basic(GstRtspServer.RTSPAuth.make_basic(user, password), token)
    server.set_auth(auth)
    permissions = GstRtspServer.RTSPPermissions()
    permissions.add_permission_for_role("viewer", "media.factory.access", True)
    permissions.add_permission_for_role("viewer", "media.factory.construct", True)
    factory.set_permissions(permissions)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("port")
    parser.add_argument("--video")
    parser.add_argument("--user")
    parser.add_argument("--password", default="")
    parser.add_argument("--digest", action="store_true", help="instead of basic authentication")
    options = parser.parse_args()
    Gst.init(None)
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(options.port)
    factory = Live(Pictures(options.video))
    if options.user:
        protect(server, factory, options.user, options.password, options.digest)
    server.get_mount_points().add_factory("/cam", factory)
    if not server.attach(None):
        sys.exit(f"port {options.port} is in use")
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    GLib.MainLoop().run()


if __name__ == "__main__":
    main()
