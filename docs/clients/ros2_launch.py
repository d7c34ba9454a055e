"""Starts the stream, its ROS 2 bridge and RViz. From the repository's root, with your ROS installation sourced:

    ros2 launch docs/clients/ros2_launch.py python:=.venv/bin/python camera:=0

The bridge runs in the Python of your ROS (rclpy is built for it), which needs `pip install numpy scipy msgspec pyzmq`;
the stream runs in whatever `python` names. In RViz: fixed frame `world`, add TF and a MarkerArray on
`/whmr_stream/markers`. Ends with: x forward, y left, z up (REP-103); `body_p1` faces along its x.

On a robot whose camera already has a frame, add "--parent", "head_camera_optical_frame" to BRIDGE.
"""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, ExecuteProcess
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

STREAM = ["run_stream.py", "--bind", "tcp://127.0.0.1:5556"]
BRIDGE = ["-m", "bridges.ros", "--ros", "2", "--connect", "tcp://127.0.0.1:5556"]


def generate_launch_description():
    """What ros2 launch asks for."""
    stream = [LaunchConfiguration("python"), *STREAM, "--source", LaunchConfiguration("camera")]
    return LaunchDescription(
        [
            DeclareLaunchArgument("python", default_value="python3", description="Python of the stream"),
            DeclareLaunchArgument("camera", default_value="0", description="as run_stream.py --source"),
            ExecuteProcess(cmd=stream, output="screen", sigterm_timeout="10"),
            ExecuteProcess(cmd=["python3", *BRIDGE], output="screen", respawn=True, respawn_delay=2.0),
            Node(package="rviz2", executable="rviz2", arguments=["--fixed-frame", "world"]),
        ]
    )
