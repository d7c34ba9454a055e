"""JSON over UDP: what a plain socket gets, and what Godot, Blender and Unity make of it where they are installed."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest

from bridges import udp_json
from bridges.items import Item
from bridges.udp_json import UdpJsonBridge
from pipeline import messages
from tests.support import bridge_stream
from tests.support.bridge_stream import BridgeStream

ROOT = Path(__file__).parents[1]


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        made.bind(("127.0.0.1", 0))
        made.settimeout(20.0)
        yield made


def port(listener: socket.socket) -> int:
    return listener.getsockname()[1]


def received(listener: socket.socket) -> dict:
    return json.loads(listener.recv(65536))


def item(index: int, people: int = 1, ids: tuple[int, ...] = ()) -> Item:
    message = messages.pose_message(bridge_stream.walk(index, people), 1, 2)
    if ids:
        renamed = [msgspec.structs.replace(p, id=i) for p, i in zip(message.people, ids, strict=True)]
        message = msgspec.structs.replace(message, people=tuple(renamed))
    return Item("pose/cam/", "pose", message, b"", index * 33_333_333)


def test_a_datagram_is_the_json_of_the_wire_and_a_place(listener):
    taken = item(5, people=2)
    with UdpJsonBridge("127.0.0.1", port(listener)) as bridge:
        bridge.item(taken)
        got = received(listener)
    wire = json.loads(messages.encode("pose_json", taken.message).partition(b"\0")[2])
    assert [person.pop("place") for person in got["people"]] == [0, 1]
    assert got == wire
    np.testing.assert_allclose(
        np.reshape(got["people"][1]["joints_world_m"], (24, 3)), taken.message.people[1].joints_world_m, atol=6e-6
    )


def test_places_stay_and_nobody_is_said_once(listener):
    with UdpJsonBridge("127.0.0.1", port(listener), people=2) as bridge:
        bridge.item(item(0, 2, ids=(4, 9)))
        bridge.item(item(1, 1, ids=(9,)))
        bridge.item(item(40, 2, ids=(9, 12)))
        for silent_s in (0.4, 0.6, 0.7):
            bridge.silence(silent_s)
    listener.settimeout(0.2)
    got = [received(listener) for _ in range(4)]
    seen = [[(p["id"], p["place"]) for p in message["people"]] for message in got]
    assert seen == [[(4, 0), (9, 1)], [(9, 1)], [(12, 0), (9, 1)], []]
    with pytest.raises(TimeoutError):
        listener.recv(65536)


def test_more_people_than_a_datagram_holds_are_said_and_not_sent(listener, caplog):
    with UdpJsonBridge("127.0.0.1", port(listener), people=40) as bridge:
        bridge.item(item(0, 40))
        bridge.item(item(1, 1))
        assert len(received(listener)["people"]) == 1
    assert "too many for a datagram" in caplog.text


def test_the_program_sends_what_is_published_and_says_goodbye(listener):
    with BridgeStream() as stream:
        command = [sys.executable, "-m", "bridges.udp_json", "--connect", stream.address, "--port", str(port(listener))]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as program:
            stream.wait_for("pose")
            stream.send(bridge_stream.pose(3))
            assert received(listener)["index"] == 3
            program.send_signal(signal.SIGTERM)
            assert program.wait(20) == 0
            assert program.stdout is not None
            assert f"UDP port {port(listener)}" in program.stdout.read()
    assert received(listener)["people"] == []


def test_the_help_has_an_example(capsys):
    with pytest.raises(SystemExit):
        udp_json.main(["--help"])
    assert "python -m bridges.udp_json --host" in capsys.readouterr().out
