// Prints where everybody is, in Unity's axes (left-handed, metres, y up). Needs NetMQ and Newtonsoft.Json. For Unity
// itself there is MocapReceiver.cs.
using System;
using NetMQ;
using NetMQ.Sockets;
using Newtonsoft.Json.Linq;

public static class Subscriber
{
    // World (right-handed, y up, z toward the camera) to Unity (left-handed, y up): mirror x.
    public static float[] Position(float[] p) { return new[] { -p[0], p[1], p[2] }; }
    public static float[] Rotation(float[] q) { return new[] { q[0], -q[1], -q[2], q[3] }; }

    public static JObject Read(SubscriberSocket socket)
    {
        string text = socket.ReceiveFrameString(), newer;
        while (socket.TryReceiveFrameString(out newer)) text = newer;  // only the newest frame is of interest
        JObject message = JObject.Parse(text.Substring(text.IndexOf('\0') + 1));
        if ((int)message["v"] > 1) throw new NotSupportedException("Update this: schema version " + message["v"]);
        return message;
    }

    public static void Main(string[] arguments)
    {
        using (var socket = new SubscriberSocket())
        {
            socket.Subscribe("pose_json/");
            socket.Connect(arguments.Length > 0 ? arguments[0] : "tcp://127.0.0.1:5556");
            for (int left = arguments.Length > 1 ? int.Parse(arguments[1]) : int.MaxValue; left > 0; left--)
            {
                JObject frame = Read(socket);
                foreach (JToken person in frame["people"])
                {
                    float[] p = Position(person["t_world_root_m"].ToObject<float[]>());
                    float[] q = Rotation(person["quat_world_root_xyzw"].ToObject<float[]>());
                    Console.WriteLine("frame {0} person {1} at {2} turned {3}", frame["index"], person["id"],
                                      string.Join(" ", p), string.Join(" ", q));
                }
            }
        }
        NetMQConfig.Cleanup(false);
    }
}
