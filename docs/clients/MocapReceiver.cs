// Poses a humanoid avatar in Unity, live. Needs NetMQ (NuGetForUnity, 4.0.1 or newer) and Newtonsoft.Json (package
// com.unity.nuget.newtonsoft-json). Put it on the avatar, beside its Animator; the rig's animation type is Humanoid.
//
// Axes: Unity's, left-handed, metres, y up: the stream's (x, y, z) is (-x, y, z), its quaternion (x, y, z, w) is
// (x, -y, -z, w). The camera stands above the origin and looks along -z; an avatar that faces it looks along +z.
// Everything is in the space of this object's parent: move or turn that to place the people in your scene.
//
// Update only takes what has arrived and never waits. NetMQ's threads end when the last receiver is disabled and before
// scripts are reloaded, so neither Play, Stop nor a recompile can hang the editor.
using System.Collections.Generic;
using NetMQ;
using NetMQ.Sockets;
using Newtonsoft.Json.Linq;
using UnityEngine;

[RequireComponent(typeof(Animator))]
public class MocapReceiver : MonoBehaviour
{
    public string address = "tcp://127.0.0.1:5556";
    [Tooltip("A camera's topic is pose_json/CAMERA/; this is every camera's.")]
    public string topic = "pose_json/";
    [Tooltip("Follow this person; 0 takes the one with the lowest id.")]
    public int personId = 0;
    [Tooltip("Scale the way somebody goes to the length of the avatar's legs, so that its feet stay on the floor.")]
    public bool fitLegs = true;

    const int SchemaVersion = 1;
    static readonly int[] Parents =
        { -1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21 };
    // Of joints 0 to 21; an avatar has no bone for the two hands behind the wrists.
    static readonly HumanBodyBones[] Bones =
    {
        HumanBodyBones.Hips, HumanBodyBones.LeftUpperLeg, HumanBodyBones.RightUpperLeg, HumanBodyBones.Spine,
        HumanBodyBones.LeftLowerLeg, HumanBodyBones.RightLowerLeg, HumanBodyBones.Chest, HumanBodyBones.LeftFoot,
        HumanBodyBones.RightFoot, HumanBodyBones.UpperChest, HumanBodyBones.LeftToes, HumanBodyBones.RightToes,
        HumanBodyBones.Neck, HumanBodyBones.LeftShoulder, HumanBodyBones.RightShoulder, HumanBodyBones.Head,
        HumanBodyBones.LeftUpperArm, HumanBodyBones.RightUpperArm, HumanBodyBones.LeftLowerArm,
        HumanBodyBones.RightLowerArm, HumanBodyBones.LeftHand, HumanBodyBones.RightHand,
    };

    static int receivers;
    SubscriberSocket socket;
    bool refused;
    Transform[] bones;
    Quaternion[] atRest;
    float legAtRest;

    // Statics survive Play when the project has domain reload switched off.
    [RuntimeInitializeOnLoadMethod(RuntimeInitializeLoadType.SubsystemRegistration)]
    static void Forget() { receivers = 0; }

    void OnEnable()
    {
        if (bones == null && !FindBones()) { enabled = false; return; }
        AsyncIO.ForceDotNet.Force();
        socket = new SubscriberSocket();
        receivers++;
        socket.Options.ReceiveHighWatermark = 8;
        socket.Subscribe(topic);
        socket.Connect(address);
#if UNITY_EDITOR
        UnityEditor.AssemblyReloadEvents.beforeAssemblyReload += Close;
#endif
    }

    void OnDisable() { Close(); }

    void Close()
    {
#if UNITY_EDITOR
        UnityEditor.AssemblyReloadEvents.beforeAssemblyReload -= Close;
#endif
        if (socket == null) return;
        socket.Dispose();
        socket = null;
        if (--receivers == 0) NetMQConfig.Cleanup(false);
    }

    // After Animator, which would undo it; an Animator without a controller does nothing.
    void LateUpdate()
    {
        if (socket == null) return;
        string text = null, newer;
        while (socket.TryReceiveFrameString(out newer)) text = newer;
        if (text == null) return;
        JObject message = JObject.Parse(text.Substring(text.IndexOf('\0') + 1));
        if ((int)message["v"] > SchemaVersion)
        {
            if (!refused) Debug.LogError("Update this script: the stream's schema version is " + message["v"], this);
            refused = true;
            return;
        }
        JToken chosen = null;
        foreach (JToken person in message["people"])
        {
            int id = (int)person["id"];
            if (personId == 0 ? chosen == null || id < (int)chosen["id"] : id == personId) chosen = person;
        }
        if (chosen != null) Pose(chosen);
    }

    static Vector3 Point(float[] p, int i) { return new Vector3(-p[3 * i], p[3 * i + 1], p[3 * i + 2]); }

    static Quaternion Turn(float[] q, int i)
    {
        return new Quaternion(q[4 * i], -q[4 * i + 1], -q[4 * i + 2], q[4 * i + 3]);
    }

    void Pose(JToken person)
    {
        float[] local = person["quats_parent_joint_xyzw"].ToObject<float[]>();
        float[] joints = person["joints_world_m"].ToObject<float[]>();
        var turns = new Quaternion[Bones.Length];
        turns[0] = Turn(person["quat_world_root_xyzw"].ToObject<float[]>(), 0);
        for (int i = 1; i < turns.Length; i++) turns[i] = turns[Parents[i]] * Turn(local, i - 1);
        Transform place = transform.parent;
        Quaternion around = place == null ? Quaternion.identity : place.rotation;
        float scale = fitLegs ? legAtRest / Leg(joints) : 1f;
        Vector3 hips = Point(joints, 0) * scale;
        // Parents come before children, so what is set stays
        for (int i = 0; i < turns.Length; i++)
            if (bones[i] != null) bones[i].rotation = around * turns[i] * atRest[i];
        bones[0].position = place == null ? hips : place.TransformPoint(hips);
    }

    static float Leg(float[] p) { return Leg(Point(p, 1), Point(p, 4), Point(p, 7)); }

    static float Leg(Vector3 hip, Vector3 knee, Vector3 ankle)
    {
        return Vector3.Distance(hip, knee) + Vector3.Distance(knee, ankle);
    }

    // The avatar's own T-pose, as Configure Avatar has it, whatever pose it stands in now.
    bool FindBones()
    {
        var animator = GetComponent<Animator>();
        if (animator.avatar == null || !animator.avatar.isHuman)
        {
            Debug.LogError("The Animator's avatar is not humanoid: set Animation Type in the model's Rig.", this);
            return false;
        }
        var tPose = new Dictionary<string, SkeletonBone>();
        foreach (SkeletonBone bone in animator.avatar.humanDescription.skeleton) tPose[bone.name] = bone;
        bones = new Transform[Bones.Length];
        atRest = new Quaternion[Bones.Length];
        var places = new Vector3[Bones.Length];
        for (int i = 0; i < Bones.Length; i++)
        {
            bones[i] = animator.GetBoneTransform(Bones[i]);
            if (bones[i] == null) continue;
            Quaternion turned = Quaternion.identity;
            Vector3 at = Vector3.zero;
            for (Transform t = bones[i]; t != null && t != transform; t = t.parent)
            {
                SkeletonBone rest;
                bool known = tPose.TryGetValue(t.name, out rest);
                Quaternion rotation = known ? rest.rotation : t.localRotation;
                at = (known ? rest.position : t.localPosition)
                    + rotation * Vector3.Scale(known ? rest.scale : t.localScale, at);
                turned = rotation * turned;
            }
            atRest[i] = turned;
            places[i] = at;
        }
        legAtRest = Leg(places[1], places[4], places[7]) * transform.localScale.y;
        if (bones[0] != null) return true;
        Debug.LogError("The avatar's bones are hidden: switch off Optimize Game Objects in the model's Rig.", this);
        bones = null;
        return false;
    }
}
