"""What goes over the wire: messages made from results, their bytes, and back. `docs/wire.md` is the page for readers.

One single-frame ZeroMQ message is ``topic + NUL + payload``; the topic is ``<kind>/<camera>/``. `pose` and `mesh` are
msgpack with arrays as little-endian blobs of float32, or uint32 for indices; every other kind is JSON with arrays as
flat lists, last axis fastest.

    python -m pipeline.messages --connect tcp://127.0.0.1:5556        prints what arrives
"""

from __future__ import annotations

import functools
import math
import re
import sys
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from pipeline import frames
from pipeline.frames import Array
from pipeline.schema import (
    SCHEMA_VERSION,
    Calibration,
    CalibrationMessage,
    Indices,
    MeshMessage,
    MeshPerson,
    PersonMessage,
    PoseMessage,
    StatusMessage,
    array_shapes,
)
from pipeline.types import CameraCalibration, FrameResult, Person

__all__ = [
    "KINDS",
    "MSGPACK_KINDS",
    "SCHEMA_VERSION",
    "Calibration",
    "CalibrationMessage",
    "MeshMessage",
    "MeshPerson",
    "Message",
    "PersonMessage",
    "PoseMessage",
    "StatusMessage",
    "calibration_message",
    "decode",
    "encode",
    "pose_message",
    "topic",
]

Message = PoseMessage | CalibrationMessage | StatusMessage | MeshMessage
#: Decimals of an array's numbers in `pose_json`: 10 micrometres, and less than 0.002 degrees in a quaternion.
JSON_DECIMALS = 5
_CAMERA_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


def topic(kind: str, camera_id: str) -> str:
    """`<kind>/<camera>/`. Raises ValueError for a camera id that is not 1 to 64 letters, digits, ".", "_" or "-"."""
    if not _CAMERA_ID.fullmatch(camera_id):
        raise ValueError(
            f"Camera id {camera_id!r}: expected 1 to 64 letters, digits, '.', '_' or '-', because topics carry it."
        )
    return f"{kind}/{camera_id}/"


def _known(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


@functools.lru_cache(maxsize=4)
def calibration_part(calibration: CameraCalibration) -> Calibration:
    """The wire's form of a calibration; remembered, because one calibration serves many frames."""
    pitch, roll = frames.pitch_roll_rad(calibration.up_camera)
    return Calibration(
        id=calibration.id,
        status=str(calibration.status),
        size_wh=calibration.size_wh,
        focal_px=math.sqrt(calibration.K[0, 0] * calibration.K[1, 1]),
        focal_spread=_known(calibration.focal_spread),
        K=calibration.K,
        distortion=calibration.distortion,
        quat_world_camera_xyzw=frames.quat_xyzw(calibration.R_world_camera),
        t_world_camera_m=calibration.t_world_camera,
        pitch_rad=pitch,
        roll_rad=roll,
        gravity_spread_rad=_known(calibration.gravity_spread_rad),
        camera_height_m=calibration.camera_height_m,
        height_spread_m=_known(calibration.height_spread_m),
        n_samples=calibration.n_samples,
        estimator=calibration.estimator,
    )


def pose_message(result: FrameResult, t_publish_ns: int, t_publish_wall_ns: int) -> PoseMessage:
    """The message of one frame; publish times in nanoseconds, monotonic and Unix.

    The local joint rotations, betas and confidence are those of the world pose; both poses are of one body.
    """
    Rs = np.empty((len(result.people), 25, 3, 3))
    for R, p in zip(Rs, result.people, strict=True):
        R[0], R[1], R[2:] = p.camera.R_camera_root, p.world.R_world_root, p.world.Rs_parent_joint
    quats = frames.quat_xyzw(Rs) if result.people else Rs
    return PoseMessage(
        v=SCHEMA_VERSION,
        camera=result.camera_id,
        index=result.index,
        size_wh=result.size_wh,
        t_capture_ns=result.t_capture_ns,
        t_wall_ns=result.t_wall_ns,
        t_grab_ns=result.t_grab_ns,
        t_publish_ns=t_publish_ns,
        t_publish_wall_ns=t_publish_wall_ns,
        dropped=result.dropped,
        stages_ms={name: round(ms, 3) for name, ms in result.stages_ms.items()},
        calibration=calibration_part(result.calibration),
        people=tuple(_person_message(p, q) for p, q in zip(result.people, quats, strict=True)),
    )


def _person_message(person: Person, quats: Array) -> PersonMessage:
    return PersonMessage(
        id=person.track_id,
        score=float(person.score),
        predicted=person.predicted,
        box_xyxy=person.box_xyxy,
        confidence=person.world.confidence,
        betas=person.world.betas,
        quat_camera_root_xyzw=quats[0],
        t_camera_root_m=person.camera.t_camera_root,
        quat_world_root_xyzw=quats[1],
        t_world_root_m=person.world.t_world_root,
        velocity_world_m_s=person.world.velocity_m_s,
        quats_parent_joint_xyzw=quats[2:],
        joints_camera_m=person.camera.joints_camera_m,
        joints_world_m=person.world.joints_world_m,
    )


def calibration_message(
    calibration: CameraCalibration, t_publish_ns: int, t_publish_wall_ns: int
) -> CalibrationMessage:
    """The message of one calibration; publish times in nanoseconds, monotonic and Unix."""
    part = calibration_part(calibration)
    return CalibrationMessage(SCHEMA_VERSION, calibration.camera_id, t_publish_ns, t_publish_wall_ns, part)


def _blob(value: NDArray[Any]) -> bytes:
    return np.ascontiguousarray(value, dtype="<u4" if value.dtype.kind == "u" else "<f4").tobytes()


def _rounded(value: Array) -> list[float]:
    return value.ravel().round(JSON_DECIMALS).tolist()


def _exact(value: Array) -> list[float]:
    return value.ravel().tolist()


def _from_blob(kind: type, value: Any) -> NDArray[Any]:
    if not isinstance(value, bytes) or len(value) % 4:
        raise ValueError(f"expected a blob of little-endian {'uint32' if kind == Indices else 'float32'}")
    if kind == Indices:
        return np.frombuffer(value, dtype="<u4")
    return _finite(np.frombuffer(value, dtype="<f4").astype(np.float64))


def _from_list(_type: type, value: Any) -> Array:
    return _finite(np.array(msgspec.convert(value, list[float]), dtype=np.float64))


def _finite(values: Array) -> Array:
    if not np.isfinite(values).all():
        raise ValueError("expected finite numbers")
    values.flags.writeable = False
    return values


_PACK = msgspec.msgpack.Encoder(enc_hook=_blob)
_POSE_JSON = msgspec.json.Encoder(enc_hook=_rounded)
_JSON = msgspec.json.Encoder(enc_hook=_exact)
_ENCODERS: dict[str, Any] = {
    "pose": _PACK,
    "pose_json": _POSE_JSON,
    "calibration": _JSON,
    "status": _JSON,
    "mesh": _PACK,
}
_DECODERS: dict[str, Any] = {
    "pose": msgspec.msgpack.Decoder(PoseMessage, dec_hook=_from_blob),
    "pose_json": msgspec.json.Decoder(PoseMessage, dec_hook=_from_list),
    "calibration": msgspec.json.Decoder(CalibrationMessage, dec_hook=_from_list),
    "status": msgspec.json.Decoder(StatusMessage),
    "mesh": msgspec.msgpack.Decoder(MeshMessage, dec_hook=_from_blob),
}
KINDS = tuple(_ENCODERS)
MSGPACK_KINDS = tuple(kind for kind, encoder in _ENCODERS.items() if encoder is _PACK)


_PERSON_SIZES = {name: math.prod(shape) for name, shape in array_shapes(PersonMessage).items()}


class _Version(Struct):
    v: int


_VERSION_DECODERS: dict[str, Any] = {
    kind: (msgspec.msgpack if kind in MSGPACK_KINDS else msgspec.json).Decoder(_Version) for kind in KINDS
}


def encode(kind: str, message: Message) -> bytes:
    """The whole ZeroMQ message: topic, NUL, payload. `kind` is one of KINDS and fits the message's type."""
    fields = _pose_fields(kind, message) if isinstance(message, PoseMessage) else message
    return _head(kind, message.camera) + _ENCODERS[kind].encode(fields)


@functools.lru_cache(maxsize=16)
def _head(kind: str, camera_id: str) -> bytes:
    return topic(kind, camera_id).encode() + b"\0"


def _pose_fields(kind: str, message: PoseMessage) -> dict[str, Any]:
    """The message as plain fields: one conversion for all arrays of a frame costs half of one for each."""
    flat = _numbers(message)
    values: Any = flat.astype("<f4").tobytes() if kind == "pose" else flat.round(JSON_DECIMALS).tolist()
    width, start = (4, 0) if kind == "pose" else (1, 0)
    people = []
    for person in message.people:
        fields = msgspec.structs.asdict(person)
        for name, size in _PERSON_SIZES.items():
            fields[name] = values[start : start + size * width]
            start += size * width
        people.append(fields)
    return msgspec.structs.asdict(message) | {
        "calibration": _calibration_bytes(kind, message.calibration),
        "people": people,
    }


@functools.lru_cache(maxsize=1)
def _numbers(message: PoseMessage) -> Array:
    arrays = [getattr(person, name) for person in message.people for name in _PERSON_SIZES]
    return np.concatenate(arrays, axis=None) if arrays else np.zeros(0)


@functools.lru_cache(maxsize=8)
def _calibration_bytes(kind: str, calibration: Calibration) -> msgspec.Raw:
    return msgspec.Raw(_ENCODERS[kind].encode(calibration))


def decode(data: bytes) -> tuple[str, Message]:
    """Topic and message of the bytes `encode` makes; fields that this version does not know are ignored.

    Raises ValueError for anything else: a foreign or cut message, wrong shapes, numbers that are not finite, a
    schema version that is newer than this reader.
    """
    name, nul, payload = data.partition(b"\0")
    kind, _, rest = name.decode("ascii", "replace").partition("/")
    if not nul or kind not in KINDS:
        raise ValueError(
            f"Expected a message that starts with one of the topics {', '.join(f'{k}/' for k in KINDS)} and a NUL, "
            f"got {len(data)} bytes that start with {data[:24]!r}: is this the address of a pose publisher?"
        )
    try:
        version = _VERSION_DECODERS[kind].decode(payload).v
        if version > SCHEMA_VERSION or version < 1:
            raise ValueError(
                f"The {kind}/ message has schema version {version}, this reader knows version {SCHEMA_VERSION}: "
                "update the older of the two programs."
            )
        message: Message = _DECODERS[kind].decode(payload)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ValueError(f"The {kind}/ message of {len(data)} bytes is malformed: {error}.") from error
    if rest != f"{message.camera}/":
        raise ValueError(f"The topic {kind}/{rest} does not fit its message, which is of camera {message.camera!r}.")
    return f"{kind}/{rest}", message


if __name__ == "__main__":
    from pipeline.subscriber import main

    sys.exit(main())
