"""Video in: webcams, network streams, files, folders of images and the demo, all as a `Source` of `Frame`s.

with open_source("0", size_wh=(1280, 720)) as source:
    for frame in source.frames():
        ...
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path

from pipeline.capture import Capture, open_file, open_stream, open_webcam
from pipeline.live import STALE_S, LiveSource
from pipeline.source_base import Source, SourceState
from pipeline.source_spec import SourceError, SourceKind, SourceSpec, parse_spec, redact, sanitize_camera_id, slug
from pipeline.video_file import ImageFolder, RecordedSource, VideoFile, check_readable

__all__ = ["Source", "SourceError", "SourceState", "open_source", "redact", "sanitize_camera_id"]

log = logging.getLogger(__name__)


def open_source(
    spec: str,
    *,
    camera_id: str | None = None,
    size_wh: tuple[int, int] | None = None,
    fps: float | None = None,
    realtime: bool = False,
    loop: bool = False,
) -> Source:
    """The source that `spec` names, connected: its first picture has been seen.

    spec       "0" or "/dev/video0" (webcam), "rtsp://...", "http://..." (a stream; a finite video is read like a
               file), a video file, a folder of images or one image, "demo" or "demo:two"
    camera_id  overrides the name made of `spec`, and is put into the same form
    size_wh    asked of a webcam, pixels
    fps        asked of a webcam; the rate of a folder of images (default 30)
    realtime   paces a file or folder like a camera, and drops like one
    loop       starts a file or folder over at its end; times go on rising

    Blocks while it connects, for a network stream at most about 15 s. Raises SourceError: one sentence that says what
    is wrong and what to do. No thread is left behind then.
    """
    parsed = parse_spec(spec)
    name = sanitize_camera_id(spec) if camera_id is None else slug(camera_id)
    if parsed.kind is not SourceKind.WEBCAM and (size_wh or (fps and parsed.kind is not SourceKind.IMAGES)):
        log.warning("a size and a frame rate can only be asked of a webcam; %s comes as it is", redact(spec))
    target = parsed.target
    if parsed.kind is SourceKind.IMAGES and isinstance(target, Path):
        check_readable(target)
        return RecordedSource(ImageFolder(target, fps or 30.0), name, paced=realtime, loop=loop)
    connect = _connector(parsed, size_wh, fps)
    capture = connect()
    if parsed.kind is SourceKind.VIDEO or (parsed.kind is SourceKind.STREAM and capture.frame_count):
        return RecordedSource(VideoFile(capture, connect, redact(str(target))), name, paced=realtime, loop=loop)
    return LiveSource(capture, connect, name)


def _connector(parsed: SourceSpec, size_wh: tuple[int, int] | None, fps: float | None) -> Callable[[], Capture]:
    """What opens the source, now and again later."""
    target = parsed.target
    if parsed.kind is SourceKind.STREAM:
        return partial(open_stream, str(target), STALE_S)
    if isinstance(target, Path):
        check_readable(target)
        return partial(open_file, target)
    return partial(open_webcam, target, size_wh, fps)
