"""Log lines that would come with every frame."""

import logging

from pipeline import limited_log
from pipeline.limited_log import LimitedLog


def test_one_line_goes_through_and_the_next_says_how_many_did_not(monkeypatch, caplog):
    now = [100.0]
    monkeypatch.setattr(limited_log.time, "monotonic", lambda: now[0])
    limited = LimitedLog(logging.getLogger("tests.limited"), every_s=1.0)
    for i in range(17):
        limited.warning("Frame %d could not be read", i)
        now[0] += 0.125
    assert caplog.messages == [
        "Frame 0 could not be read",
        "Frame 8 could not be read (7 more like this)",
        "Frame 16 could not be read (7 more like this)",
    ]
