"""People for robots: TF, REP-155 topics, poses with covariance and markers, for ROS 2, ROS 1 or into a file.

    python -m bridges.ros --ros 2                       publish through rclpy
    python -m bridges.ros --ros 1                       publish through rospy
    python -m bridges.ros --out people.mcap             ROS 2 messages into a file; needs no ROS

Axes are REP-103's; `bridges.ros_messages` says which topics and frames there are.
"""

from __future__ import annotations

import argparse
import sys
import threading
from pathlib import Path

from bridges.feed import Item, add_feed_options, bridge_parser, exit_status, run_bridge
from bridges.ros_messages import frame_messages, gone_messages, static_messages
from bridges.ros_outputs import Output, Ros1Output, Ros2Output
from bridges.ros_values import Frames, body_id
from pipeline.messages import PoseMessage

PROG = "python -m bridges.ros"
EXAMPLE = """\
python -m bridges.ros --ros 2
python -m bridges.ros --ros 2 --parent head_camera_optical_frame
python -m bridges.ros --out people.mcap --connect tcp://127.0.0.1:5556"""
#: Without messages for this long nobody is said to be there any more.
GONE_S = 1.0


class RosBridge:
    """Turns items into an output's messages and remembers who was there."""

    def __init__(self, output: Output, names: Frames) -> None:
        self.output, self.names = output, names
        self._present: set[int] = set()
        self._static_sent = False
        self._last_ns = (0, 0, 0)

    def handle(self, item: Item) -> None:
        """Sends all messages of one frame."""
        message = item.message
        if not isinstance(message, PoseMessage):
            return
        times = item.log_time_ns, message.t_publish_wall_ns
        self._last_ns = message.t_wall_ns, *times
        if not self._static_sent:
            self._static_sent = True
            for outgoing in static_messages(message.t_wall_ns, self.names):
                self.output.send(outgoing, *times)
        here = {person.id for person in message.people}
        left = sorted(self._present - here)
        self._present = here
        for outgoing in frame_messages(message, self.names, left):
            self.output.send(outgoing, *times)
        self._forget(left)

    def on_silence(self, silent_s: float) -> None:
        """Says, once, that nobody is there when messages stay out."""
        if silent_s > GONE_S and self._present:
            left = sorted(self._present)
            self._present = set()
            # counted from the last frame, because a recording has times of its own
            stamp, *times = (t + round(silent_s * 1e9) for t in self._last_ns)
            for outgoing in gone_messages(stamp, self.names, left):
                self.output.send(outgoing, *times)
            self._forget(left)

    def _forget(self, left: list[int]) -> None:
        for ident in left:
            self.output.forget(f"/humans/bodies/{body_id(ident)}/")


def parser() -> argparse.ArgumentParser:
    """The options of the command line."""
    found = bridge_parser(PROG, "People as ROS messages: TF, REP-155, markers, poses with covariance.", EXAMPLE)
    where = found.add_mutually_exclusive_group(required=True)
    where.add_argument("--ros", type=int, choices=(1, 2), help="publish to a running ROS of this version")
    where.add_argument("--out", type=Path, metavar="FILE", help="write ROS 2 messages into this .mcap instead")
    found.add_argument("--world-frame", default="world", metavar="FRAME", help="default %(default)s")
    found.add_argument(
        "--camera-frame", default="camera", metavar="PREFIX", help="default %(default)s: camera_link and so on"
    )
    found.add_argument(
        "--parent", metavar="FRAME", help="optical frame that your robot publishes: the world becomes its child"
    )
    add_feed_options(found)
    return found


def open_output(options: argparse.Namespace, ros_arguments: list[str]) -> Output:
    """What --ros or --out names. Raises ImportError, OSError or ValueError with what to type."""
    if options.out is not None:
        from bridges.ros_mcap import McapOutput

        return McapOutput(options.out)
    return Ros2Output(ros_arguments) if options.ros == 2 else Ros1Output()


def main(arguments: list[str] | None = None) -> int:
    """Bridges until Ctrl-C or the end of the recording; returns the exit status."""
    given = sys.argv[1:] if arguments is None else arguments
    cut = given.index("--ros-args") if "--ros-args" in given else len(given)
    options = parser().parse_args(given[:cut])
    names = Frames(options.world_frame, options.camera_frame, options.parent)

    def work() -> None:
        output = open_output(options, given[cut + 1 :])
        bridge = RosBridge(output, names)
        live = options.ros is not None and options.recording is None
        try:
            run_bridge(options, bridge.handle, threading.Event(), newest_only=live, on_silence=bridge.on_silence)
        finally:
            output.close()

    return exit_status(options, PROG, work)


if __name__ == "__main__":
    sys.exit(main())
