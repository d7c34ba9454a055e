"""ROS messages into a running ROS: 2 through rclpy, 1 through rospy. Neither is imported before it is asked for."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from bridges.ros_values import Outgoing, RosMessage

log = logging.getLogger(__name__)

NODE = "whmr_stream"
#: Where Debian's and Ubuntu's packages put rospy, which a virtual environment does not look at.
SYSTEM_PACKAGES = Path("/usr/lib/python3/dist-packages")
_DEPTH = 10


class Output(Protocol):
    """Where messages go."""

    def send(self, outgoing: Outgoing, log_time_ns: int, publish_time_ns: int) -> None:
        """Sends or keeps one message; times are Unix times in nanoseconds for outputs that keep them."""

    def forget(self, topics: str) -> None:
        """No more comes on topics that start so."""

    def close(self) -> None:
        """Frees what is open. A second call does nothing."""


class Types:
    """Classes of installed ROS packages by ROS 2's names, and objects of them."""

    def __init__(self, special: dict[str, Callable[..., Any]], renamed: dict[str, dict[str, str]]) -> None:
        """`special`: makes for types that are no class of a package; `renamed`: fields that have another name."""
        self._makers: dict[str, Callable[..., Any] | None] = dict(special)
        self._renamed = renamed

    def maker(self, name: str) -> Callable[..., Any] | None:
        """The class, or None when its package is not installed, which is logged once."""
        if name not in self._makers:
            package, _, kind = name.partition("/msg/")
            try:
                self._makers[name] = getattr(importlib.import_module(f"{package}.msg"), kind)
            except (ImportError, AttributeError):
                log.warning("%s is not in this ROS installation: topics of that type are left out.", name)
                self._makers[name] = None
        return self._makers[name]

    def object(self, message: RosMessage) -> Any:
        """The message as an object of its class. Raises KeyError when a part's package is not installed."""
        maker = self.maker(message.type)
        if maker is None:
            raise KeyError(message.type)
        names = self._renamed.get(message.type, {})
        return maker(**{names.get(name, name): self._value(value) for name, value in message.fields.items()})

    def _value(self, value: Any) -> Any:
        if isinstance(value, RosMessage):
            return self.object(value)
        if isinstance(value, list) and value and isinstance(value[0], RosMessage):
            return [self.object(v) for v in value]
        return value


class Ros2Output:
    """Publishes through rclpy: reliable, latched topics transient local. Use by one thread."""

    def __init__(self, ros_arguments: Sequence[str] = ()) -> None:
        """`ros_arguments`: what follows --ros-args. Raises ImportError when there is no rclpy for this Python."""
        try:
            rclpy = importlib.import_module("rclpy")
            qos = importlib.import_module("rclpy.qos")
            signals = importlib.import_module("rclpy.signals")
        except ImportError as error:
            raise ImportError(
                f"ROS 2's rclpy cannot be imported by Python {sys.version_info.major}.{sys.version_info.minor} "
                f"({error}): source your ROS installation first and use the Python it was built for, for instance "
                "'source /opt/ros/jazzy/setup.bash' and python3.12; or write a file with --out x.mcap."
            ) from error
        arguments = ["--ros-args", *ros_arguments] if ros_arguments else []
        rclpy.init(args=arguments, signal_handler_options=signals.SignalHandlerOptions.NO)
        self._rclpy, self._qos = rclpy, qos
        self._node = rclpy.create_node(NODE)
        self._types = Types({}, {})
        self._publishers: dict[str, Any] = {}

    def send(self, outgoing: Outgoing, log_time_ns: int, publish_time_ns: int) -> None:
        """Publishes one message; both times are its receivers' matter."""
        kind = self._types.maker(outgoing.message.type)
        if kind is None:
            return
        if outgoing.topic not in self._publishers:
            durability = self._qos.DurabilityPolicy
            profile = self._qos.QoSProfile(
                depth=1 if outgoing.latched else _DEPTH,
                reliability=self._qos.ReliabilityPolicy.RELIABLE,
                durability=durability.TRANSIENT_LOCAL if outgoing.latched else durability.VOLATILE,
            )
            self._publishers[outgoing.topic] = self._node.create_publisher(kind, outgoing.topic, profile)
        self._publishers[outgoing.topic].publish(self._types.object(outgoing.message))

    def forget(self, topics: str) -> None:
        """Takes the publishers of these topics down."""
        for topic in [t for t in self._publishers if t.startswith(topics)]:
            self._node.destroy_publisher(self._publishers.pop(topic))

    def close(self) -> None:
        """Takes the node down. A second call does nothing."""
        if self._rclpy.ok():
            self._node.destroy_node()
            self._rclpy.shutdown()


class Ros1Output:
    """Publishes through rospy. Use by one thread; one in a process, as rospy has one node in a process."""

    def __init__(self) -> None:
        """Raises ImportError when rospy is not installed, OSError when no ROS master answers."""
        if importlib.util.find_spec("rospy") is None and (SYSTEM_PACKAGES / "rospy").is_dir():
            sys.path.append(str(SYSTEM_PACKAGES))
        for name in ("rospy", "rosout"):
            logging.getLogger(name).setLevel(logging.WARNING)
        try:
            rospy: Any = importlib.import_module("rospy")
            rosgraph = importlib.import_module("rosgraph")
        except ImportError as error:
            raise ImportError(
                f"ROS 1's rospy cannot be imported ({error}): source your ROS installation first, for instance "
                "'source /opt/ros/noetic/setup.bash', or on Debian 'apt install python3-rospy python3-tf2-msgs "
                "python3-sensor-msgs python3-visualization-msgs'."
            ) from error
        if not rosgraph.is_master_online():
            raise OSError(f"No ROS master answers at {rosgraph.get_master_uri()}: type roscore, or set ROS_MASTER_URI.")
        root = logging.getLogger()
        ours, level = list(root.handlers), root.level
        rospy.init_node(NODE, disable_signals=True)
        # rospy has put its log file in the place of our standard error
        root.handlers += [handler for handler in ours if handler not in root.handlers]
        root.setLevel(level)
        self._rospy = rospy
        times = {"builtin_interfaces/msg/Time": rospy.Time, "builtin_interfaces/msg/Duration": rospy.Duration}
        special = {name: _ros1_time(kind) for name, kind in times.items()}
        upper = {"sensor_msgs/msg/CameraInfo": {name: name.upper() for name in "dkrp"}}
        self._types = Types(special, upper)
        self._publishers: dict[str, Any] = {}

    def send(self, outgoing: Outgoing, log_time_ns: int, publish_time_ns: int) -> None:
        """Publishes one message; both times are its receivers' matter."""
        kind = self._types.maker(outgoing.message.type)
        if kind is None:
            return
        if outgoing.topic not in self._publishers:
            self._publishers[outgoing.topic] = self._rospy.Publisher(
                outgoing.topic, kind, latch=outgoing.latched, queue_size=_DEPTH
            )
        self._publishers[outgoing.topic].publish(self._types.object(outgoing.message))

    def forget(self, topics: str) -> None:
        """Takes the publishers of these topics down."""
        for topic in [t for t in self._publishers if t.startswith(topics)]:
            self._publishers.pop(topic).unregister()

    def close(self) -> None:
        """Takes the node down. A second call does nothing."""
        self._rospy.signal_shutdown("the bridge ends")


def _ros1_time(kind: Callable[[int, int], Any]) -> Callable[..., Any]:
    return lambda sec, nanosec: kind(sec, nanosec)
