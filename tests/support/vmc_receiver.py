"""A VMC receiver as others write them: python-osc takes datagrams apart, Unity's conventions put joints together."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

import numpy as np
from pythonosc.dispatcher import Dispatcher
from pythonosc.osc_server import BlockingOSCUDPServer

from pipeline.frames import Array

PATIENCE_S = 20.0
#: Unity's HumanBodyBones with the bone each hangs on; without an UpperChest its children hang on Chest.
PARENT = {
    "Hips": None, "Spine": "Hips", "Chest": "Spine", "UpperChest": "Chest", "Neck": "UpperChest", "Head": "Neck",
    "LeftShoulder": "UpperChest", "LeftUpperArm": "LeftShoulder", "LeftLowerArm": "LeftUpperArm",
    "LeftHand": "LeftLowerArm", "RightShoulder": "UpperChest", "RightUpperArm": "RightShoulder",
    "RightLowerArm": "RightUpperArm", "RightHand": "RightLowerArm", "LeftUpperLeg": "Hips",
    "LeftLowerLeg": "LeftUpperLeg", "LeftFoot": "LeftLowerLeg", "LeftToes": "LeftFoot", "RightUpperLeg": "Hips",
    "RightLowerLeg": "RightUpperLeg", "RightFoot": "RightLowerLeg", "RightToes": "RightFoot",
}  # fmt: skip


class VmcReceiver:
    """A python-osc server on a port of its own; a context manager.

    calls    (address, arguments, port of the sender) in the order of arrival
    packets  bytes of each datagram
    """

    def __init__(self, port: int = 0) -> None:
        self.calls: list[tuple[str, tuple[Any, ...], int]] = []
        self.packets: list[bytes] = []
        dispatcher = Dispatcher()
        dispatcher.set_default_handler(self._take, needs_reply_address=True)
        packets = self.packets

        class Server(BlockingOSCUDPServer):
            def verify_request(self, request: Any, client_address: Any) -> bool:
                packets.append(request[0])
                return super().verify_request(request, client_address)

        self._server = Server(("127.0.0.1", port), dispatcher)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    def _take(self, client: tuple[str, int], address: str, *arguments: Any) -> None:
        self.calls.append((address, arguments, client[1]))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def wait(self, address: str, count: int = 1) -> None:
        """Waits until `address` came that often."""
        end_s = time.monotonic() + PATIENCE_S
        while len(self.of(address)) < count:
            assert time.monotonic() < end_s, f"{address}: {len(self.of(address))} of {count} came"
            time.sleep(0.005)

    def of(self, address: str) -> list[tuple[Any, ...]]:
        """The arguments of every message to `address`."""
        return [arguments for name, arguments, _ in list(self.calls) if name == address]

    def clear(self) -> None:
        """Forgets what came."""
        self.calls.clear()
        self.packets.clear()

    def bones(self, rest: dict[str, Array] | None = None) -> dict[str, tuple[Array, Array]]:
        """World place and rotation x y z w of every bone of the newest frame, Unity's axes.

        `rest`: the model's own offsets from its parents; then only rotations and the Hips' place are taken, as VRM
        players do.
        """
        bones = {name: np.array(numbers) for name, *numbers in self.of("/VMC/Ext/Bone/Pos")}
        root = np.array(self.of("/VMC/Ext/Root/Pos")[-1][1:])
        places: dict[str, tuple[Array, Array]] = {}

        def place(name: str) -> tuple[Array, Array]:
            if name not in places:
                offset, quat = bones[name][:3], bones[name][3:]
                if rest is not None and name != "Hips":
                    offset = rest[name]
                parent = PARENT[name]
                if parent == "UpperChest" and parent not in bones:
                    parent = "Chest"
                at, turn = (root[:3], root[3:]) if parent is None else place(parent)
                places[name] = at + turned(turn, offset), product(turn, quat)
            return places[name]

        return {name: place(name) for name in bones}

    def joints(self, rest: dict[str, Array] | None = None) -> dict[str, Array]:
        """The places of `bones`."""
        return {name: place for name, (place, _) in self.bones(rest).items()}


def turned(quat: Array, vector: Array) -> Array:
    """`vector` turned by a quaternion x y z w, as Unity's `Quaternion * Vector3`."""
    u, w = quat[:3], quat[3]
    return vector + 2 * w * np.cross(u, vector) + 2 * np.cross(u, np.cross(u, vector))


def product(a: Array, b: Array) -> Array:
    """First `b`, then `a`, as Unity's `Quaternion * Quaternion`."""
    xyz = a[3] * b[:3] + b[3] * a[:3] + np.cross(a[:3], b[:3])
    return np.append(xyz, a[3] * b[3] - a[:3] @ b[:3])


@contextmanager
def neighbours() -> Iterator[tuple[VmcReceiver, VmcReceiver]]:
    """Two receivers on ports that follow each other."""
    for _ in range(50):
        with VmcReceiver() as first:
            try:
                second = VmcReceiver(first.port + 1)
            except (OSError, OverflowError):
                continue
            with second:
                yield first, second
                return
    raise AssertionError("no two ports that follow each other are free")
