"""Runs in the system's Python, with Debian's ROS 1: waits for a body, prints what tf2 and the topics say as JSON.

python3 ros1_receiver.py FRAME SOURCE SECONDS
"""

import json
import sys
import time

import rospy
import tf2_ros
from geometry_msgs.msg import PoseWithCovarianceStamped
from sensor_msgs.msg import CameraInfo
from visualization_msgs.msg import MarkerArray


def main():
    """Prints the first transform at which everything has come."""
    target, source, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
    rospy.init_node("receiver", disable_signals=True)
    buffer, got = tf2_ros.Buffer(), {}
    listener = tf2_ros.TransformListener(buffer)
    for topic, kind in (
        ("/whmr_stream/markers", MarkerArray),
        ("/whmr_stream/camera_info", CameraInfo),
        ("/humans/bodies/p1/pose", PoseWithCovarianceStamped),
    ):
        rospy.Subscriber(topic, kind, lambda message, topic=topic: got.__setitem__(topic, message))
    end = time.time() + seconds
    while time.time() < end and not (len(got) == 3 and buffer.can_transform(target, source, rospy.Time(0))):
        time.sleep(0.05)
    found = buffer.lookup_transform(target, source, rospy.Time(0))
    p, q = found.transform.translation, found.transform.rotation
    json.dump(
        {
            "stamp_ns": found.header.stamp.to_nsec(),
            "point": [p.x, p.y, p.z],
            "quat": [q.x, q.y, q.z, q.w],
            "K": list(got["/whmr_stream/camera_info"].K),
            "markers": [[m.ns, m.id, len(m.points)] for m in got["/whmr_stream/markers"].markers],
            "covariance": list(got["/humans/bodies/p1/pose"].pose.covariance),
        },
        sys.stdout,
    )
    del listener


main()
