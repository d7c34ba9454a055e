"""What bridges to UDP receivers stand on: OSC bundles, places for people who come and go, a pace, a socket."""

from __future__ import annotations

import numpy as np
import pytest
from pythonosc.osc_bundle_builder import IMMEDIATELY, OscBundleBuilder
from pythonosc.osc_message_builder import OscMessageBuilder

from bridges.osc import BundleTemplate, OscMessage, split
from bridges.slots import Pace, Slots
from bridges.udp import MAX_DATAGRAM_BYTES, UdpSender
from tests.support.vmc_receiver import VmcReceiver


def test_a_bundle_is_python_oscs_byte_for_byte():
    sent_messages = [
        OscMessage("/abc", (1, 0.5, "text", -3)), OscMessage("/none"), OscMessage("/abcdefg", ("four", 2.25, 1e-3)),
    ]  # fmt: skip
    builder = OscBundleBuilder(IMMEDIATELY)
    for message in sent_messages:
        one = OscMessageBuilder(message.address)
        for argument in message.arguments:
            one.add_arg(argument)
        builder.add_content(one.build())
    template = BundleTemplate(sent_messages)
    assert template.pack([0.5, 2.25, 1e-3]) == builder.build().dgram
    assert template.size == builder.build().size
    template.pack([7.0, 8.0, 9.0])
    assert template.pack([0.5, 2.25, 1e-3]) == builder.build().dgram


def test_bundles_are_cut_between_messages_and_only_where_they_must():
    words = [OscMessage("/m", (float(i),)) for i in range(10)]
    # a message is 4 (length) + 12, a bundle has 16 before them
    assert [bundle.size for bundle in split(words, 16 + 3 * 16)] == [64, 64, 64, 32]
    assert [bundle.floats for bundle in split(words, 16 + 3 * 16 + 15)] == [3, 3, 3, 1]
    with pytest.raises(ValueError, match="do not fit into a bundle of 31"):
        split(words, 31)


def test_numbers_that_are_not_pythons_are_refused():
    with pytest.raises(TypeError, match="expected str, int or float as argument, got float32"):
        BundleTemplate([OscMessage("/a", (np.float32(1.0),))])


def test_what_cannot_be_sent_is_said_and_the_program_goes_on(caplog):
    with VmcReceiver() as receiver, UdpSender("localhost", receiver.port) as sender:
        assert sender.send(b"#bundle\0\0\0\0\0\0\0\0\1")
        assert not sender.send(b"x" * (MAX_DATAGRAM_BYTES + 1))
        assert not sender.send(b"x" * (MAX_DATAGRAM_BYTES + 1))
    assert [record.message for record in caplog.records] == [
        f"65508 bytes did not go to udp://localhost:{receiver.port}: Message too long."
    ]


def test_a_lone_person_found_again_under_another_id_goes_on_at_the_first_place():
    slots = Slots(3, hold_s=1.0)
    assert slots.update([1], 0.0) == {1: 0}
    assert slots.update([2], 0.4) == {}
    assert slots.held(0.4) == [0]
    assert slots.update([1, 2], 0.8) == {1: 0, 2: 1}
    assert slots.update([2], 0.9) == {2: 1}
    assert slots.update([2, 5, 6], 1.9) == {2: 1, 5: 0, 6: 2}
    assert slots.update([2, 5, 6, 7], 2.0) == {2: 1, 5: 0, 6: 2}
    with pytest.raises(ValueError, match="at least one place"):
        Slots(0, 1.0)


@pytest.mark.parametrize(("rate_hz", "sent_frames"), [(None, 300), (30.0, 300), (15.0, 150), (10.0, 100)])
def test_a_rate_thins_out_frames_evenly_although_they_jitter(rate_hz, sent_frames):
    random = np.random.default_rng(2)
    times_s = np.arange(300) / 30 + random.uniform(-0.004, 0.004, 300)
    pace = Pace(rate_hz)
    sent_s = [t for t in times_s if pace.due(t)]
    assert abs(len(sent_s) - sent_frames) <= 1
    assert np.diff(sent_s).max() < 1.5 / (rate_hz or 30.0)
