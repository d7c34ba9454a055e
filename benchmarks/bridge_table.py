"""The table of what each bridge costs, for docs/bridges.md.

    python -m benchmarks.bridge_table [--frames 300] [--write docs/bridges.md]

`benchmarks.bridge_latency` and `benchmarks.robot_latency` say what is measured. ROS 1 has a row where it is installed.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.bridge_latency import DATAGRAMS, WARM, added_ms, packing_us, stream, walk
from benchmarks.robot_latency import poses, processor_ms, ros1_ms, sonic_ms, spread
from pipeline import messages

START, END = "<!-- measured by python -m benchmarks.bridge_table --write docs/bridges.md -->", "<!-- end -->"


def cpu() -> str:
    """What /proc says the processor is, or the platform's name for it."""
    file = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.+)", file.read_text()) if file.exists() else None
    return found[1] if found else platform.processor() or platform.machine()


def recording_ms(frames: int) -> dict[str, float]:
    """Processor time of keeping one frame in an .mcap file, milliseconds."""
    from pipeline.mcap_file import McapWriter

    raw, times = stream(walk()), []
    with tempfile.TemporaryDirectory() as folder, McapWriter(Path(folder) / "take.mcap") as writer:
        for i, message in enumerate(poses(frames + WARM)):
            start = time.process_time()
            writer.write(raw[i % len(raw)], message, message.t_wall_ns)
            times.append((time.process_time() - start) * 1e3)
    return spread(times)


def decoding_ms(frames: int) -> dict[str, float]:
    """Processor time of reading one message, which every bridge has besides, milliseconds."""
    raw, times = stream(walk()), []
    for i in range(frames + WARM):
        start = time.perf_counter()
        messages.decode(raw[i % len(raw)])
        times.append((time.perf_counter() - start) * 1e3)
    return spread(times)


def rows(frames: int) -> list[tuple[str, dict[str, float] | None, dict[str, float] | None]]:
    """Name, milliseconds from publishing to the receiver, milliseconds of work a frame; None where not measured."""
    packing = {name: {k: v / 1e3 for k, v in us.items()} for name, us in packing_us(frames).items()}
    robots = processor_ms(frames)
    found = [(f"`bridges.{name}`", added_ms(name, frames), packing[name]) for name in DATAGRAMS]
    found.append(("`bridges.sonic`", sonic_ms(frames), robots["SONIC"]))
    ros1 = ros1_ms(frames)
    table: list[tuple[str, dict[str, float] | None, dict[str, float] | None]] = list(found)
    if ros1 is not None:
        table.append(("`bridges.ros --ros 1`, `/tf` in rospy", ros1, robots["ROS messages"]))
    table.append(("`bridges.ros --out`, messages and their CDR", None, robots["ROS messages, and their CDR"]))
    table.append(("`bridges.record`, on disk within 0.25 s", None, recording_ms(frames)))
    table.append(("reading a message, in every bridge", None, decoding_ms(frames)))
    return table


def cell(numbers: dict[str, float] | None) -> str:
    """Median and 95th percentile."""
    return "" if numbers is None else f"{numbers['median']:.2f} ({numbers['p95']:.2f})"


def table(frames: int) -> str:
    """The table with a line on the machine, as Markdown."""
    lines = ["| bridge | publish to receiver, ms | work a frame, ms |", "|---|---|---|"]
    lines += [f"| {name} | {cell(added)} | {cell(work)} |" for name, added, work in rows(frames)]
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    machine = f"{cpu()}, {os.cpu_count()} cores, load {load:.0f} from other programs and this one"
    return "\n".join([f"Median (95th percentile) of {frames} frames with one person at 30 Hz; {machine}.", "", *lines])


def main(arguments: list[str] | None = None) -> int:
    """Prints the table, or writes it between the two marks of a file; returns the exit status."""
    example = "example:\n  python -m benchmarks.bridge_table --write docs/bridges.md"
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.bridge_table",
        description=__doc__.split("\n\n")[0],
        epilog=example,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--write", type=Path, metavar="FILE", help="replace the table in this file")
    options = parser.parse_args(arguments)
    if options.write is None:
        sys.stdout.write(f"{table(options.frames)}\n")
        return 0
    text = options.write.read_text()
    before, mark, rest = text.partition(START)
    _, end, after = rest.partition(END)
    if not mark or not end:
        sys.stderr.write(f"{options.write}: expected the marks {START} and {END}, found none.\n")
        return 2
    options.write.write_text(f"{before}{START}\n{table(options.frames)}\n{END}{after}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
