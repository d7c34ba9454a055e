"""Prints where everybody is: pip install pyzmq msgspec numpy; python subscriber.py [ADDRESS [COUNT]].

Axes are the stream's own: right-handed, metres, y up, x the camera's right, z toward the camera.
"""

import sys

import msgspec
import numpy as np
import zmq

address = sys.argv[1] if len(sys.argv) > 1 else "tcp://127.0.0.1:5556"
socket = zmq.Context().socket(zmq.SUB)
socket.conflate = True  # the newest frame only, set before connecting
socket.subscribe("pose/")
socket.connect(address)
for _ in range(int(sys.argv[2]) if len(sys.argv) > 2 else sys.maxsize):
    frame = msgspec.msgpack.decode(socket.recv().partition(b"\0")[2])
    for person in frame["people"]:
        joints = np.frombuffer(person["joints_world_m"], "<f4").reshape(24, 3)
        print(f"frame {frame['index']} person {person['id']} pelvis at {joints[0].round(2)} m")  # noqa: T201
