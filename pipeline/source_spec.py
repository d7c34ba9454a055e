"""What `--source` means: its kind, the camera's name made of it, and how it may be written into a log."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit
from urllib.request import url2pathname

#: The rendered clips that stand beside the code, by the word after "demo:".
DEMO_CLIPS = {"one": "demo_one", "two": "demo_two"}
IMAGE_SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".jp2", ".ppm", ".pgm", ".pnm", ".avif")
)
DEFAULT_PORTS = {"rtsp": 554, "rtsps": 322, "http": 80, "https": 443}

# Cameras that take the password in the path or the query: rtsp://host/user=admin_password=x_channel=1.sdp
_SECRET = re.compile(
    r"((?:user(?:name)?|usr|login|loginuse|loginpas|pass(?:word|wd)?|pwd|token|secret|auth|key|sig(?:nature)?)=)"
    r"(.*?)(?=[&;?#/]|_[a-z]+=|$)",
    re.IGNORECASE,
)
#: The only query fields that tell one picture of a host from another; all others may carry secrets.
_CHANNEL_FIELDS = frozenset(("channel", "ch", "subtype", "stream", "streamtype", "camera", "cam", "id", "profile"))
_MAX_ID = 60


class SourceError(OSError):
    """A video source that cannot be used; the message is one sentence for the user, and never has a password in it."""


class SourceKind(Enum):
    """How a source is read."""

    WEBCAM = "webcam"
    STREAM = "stream"
    VIDEO = "video"
    IMAGES = "images"


@dataclass(frozen=True)
class SourceSpec:
    """A parsed `--source`.

    kind    how it is read
    target  what OpenCV is given: a device number, a device path, an address, a file or a folder
    """

    kind: SourceKind
    target: int | str | Path


def parse_spec(spec: str) -> SourceSpec:
    """What `spec` is. Touches the file system only to tell a folder from a file.

    Raises SourceError for an empty one, an unknown demo clip or an unknown kind of address.
    """
    text = spec.strip()
    if not text:
        raise SourceError(
            "The source is empty: give a camera (0), an rtsp:// address, a video file, a folder, or demo."
        )
    if text == "demo" or text.startswith("demo:"):
        return SourceSpec(SourceKind.VIDEO, _demo_clip(text))
    if text.isdecimal():
        return SourceSpec(SourceKind.WEBCAM, int(text))
    if text.startswith(("/dev/video", "/dev/v4l/")):
        return SourceSpec(SourceKind.WEBCAM, text)
    scheme, separator, _ = text.partition("://")
    if separator and scheme.lower() in DEFAULT_PORTS:
        return SourceSpec(SourceKind.STREAM, text)
    if separator and scheme.lower() != "file":
        raise SourceError(
            f"{redact(text)}: expected an address that starts with rtsp://, rtsps://, http:// or https://, "
            f"got {scheme}://."
        )
    path = Path(url2pathname(urlsplit(text).path)) if separator else Path(text).expanduser()
    images = os.path.isdir(path) or path.suffix.lower() in IMAGE_SUFFIXES
    return SourceSpec(SourceKind.IMAGES if images else SourceKind.VIDEO, path)


def _demo_clip(text: str) -> Path:
    name = text.partition(":")[2] or "one"
    if name not in DEMO_CLIPS:
        raise SourceError(f"There is no demo clip {name!r}: type demo:one or demo:two.")
    return Path(__file__).parents[1] / "benchmarks" / "clips" / DEMO_CLIPS[name] / "video.mp4"


def redact(spec: str) -> str:
    """`spec` for a log line: user name and password replaced by ***, in whatever part of an address they stand."""
    if "://" not in spec:
        return spec
    # the last @ of all, so that a password with an unescaped / or @ in it is covered too
    return _SECRET.sub(r"\1***", re.sub(r"://.*@", "://***@", spec, flags=re.DOTALL))


def sanitize_camera_id(spec: str) -> str:
    """A name for the camera behind `spec`: only a-z 0-9 and -, at most 60 characters, the same every time.

    It names topics and the calibration in the cache, so it never has a user name or a password in it and stays the
    same when they change: rtsp://user:pass@host/cam1 gives rtsp-host-554-cam1. A file's name ends in six digits of
    its full path, because two different clips may both be called video.mp4.
    """
    parsed = parse_spec(spec)
    if parsed.kind is SourceKind.STREAM:
        return slug(_stream_words(str(parsed.target)))
    if isinstance(parsed.target, Path):
        if spec.strip().startswith("demo"):
            return slug(parsed.target.parent.name)
        path = parsed.target.resolve()
        digest = hashlib.sha256(path.as_posix().encode("utf-8", "surrogateescape")).hexdigest()[:6]
        return f"{slug(f'{path.parent.name} {path.stem}', _MAX_ID - 7)}-{digest}"
    device = str(parsed.target)
    number = re.fullmatch(r"(?:/dev/video)?(\d+)", device)
    return f"webcam-{int(number[1])}" if number else slug(device)


def _stream_words(address: str) -> str:
    """The parts of an address that may be shown: scheme, host, port, path and the channel."""
    scheme, _, rest = address.partition("://")
    parts = urlsplit(f"//{rest.rpartition('@')[2]}")
    host, _, port = parts.netloc.rpartition(":")
    if not port.isdecimal():
        host, port = parts.netloc, str(DEFAULT_PORTS[scheme.lower()])
    path = _SECRET.sub("", unquote(parts.path))
    channel = [f"{key} {value}" for key, value in parse_qsl(parts.query) if key.lower() in _CHANNEL_FIELDS]
    return " ".join([scheme, host, port, path, *channel])


def slug(text: str, length: int = _MAX_ID) -> str:
    """`text` as words of a-z and 0-9 joined by -, at most `length` characters, "camera" when nothing is left."""
    words = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "camera"
    if len(words) <= length:
        return words
    digest = hashlib.sha256(words.encode()).hexdigest()[:6]
    return f"{words[: length - 7].rstrip('-')}-{digest}"
