// As much of UnityEngine as docs/clients/MocapReceiver.cs uses, with Unity's arithmetic, and a Main that runs it:
// mono Unity.exe ADDRESS BONES.json FIT_LEGS     prints where the bones are once somebody has been posed.
using System;
using System.Collections.Generic;
using System.IO;
using System.Reflection;
using System.Threading;
using Newtonsoft.Json.Linq;

namespace UnityEngine
{
    public struct Vector3
    {
        public float x, y, z;
        public Vector3(float x, float y, float z) { this.x = x; this.y = y; this.z = z; }
        public static Vector3 zero { get { return new Vector3(0, 0, 0); } }
        public static Vector3 one { get { return new Vector3(1, 1, 1); } }
        public static Vector3 Scale(Vector3 a, Vector3 b) { return new Vector3(a.x * b.x, a.y * b.y, a.z * b.z); }
        public static float Distance(Vector3 a, Vector3 b)
        {
            float x = a.x - b.x, y = a.y - b.y, z = a.z - b.z;
            return (float)Math.Sqrt(x * x + y * y + z * z);
        }
        public static Vector3 operator +(Vector3 a, Vector3 b) { return new Vector3(a.x + b.x, a.y + b.y, a.z + b.z); }
        public static Vector3 operator -(Vector3 a, Vector3 b) { return new Vector3(a.x - b.x, a.y - b.y, a.z - b.z); }
        public static Vector3 operator *(Vector3 a, float s) { return new Vector3(a.x * s, a.y * s, a.z * s); }
    }

    public struct Quaternion
    {
        public float x, y, z, w;
        public Quaternion(float x, float y, float z, float w) { this.x = x; this.y = y; this.z = z; this.w = w; }
        public static Quaternion identity { get { return new Quaternion(0, 0, 0, 1); } }
        public static Quaternion Inverse(Quaternion q) { return new Quaternion(-q.x, -q.y, -q.z, q.w); }
        public static Quaternion operator *(Quaternion a, Quaternion b)
        {
            return new Quaternion(
                a.w * b.x + a.x * b.w + a.y * b.z - a.z * b.y, a.w * b.y - a.x * b.z + a.y * b.w + a.z * b.x,
                a.w * b.z + a.x * b.y - a.y * b.x + a.z * b.w, a.w * b.w - a.x * b.x - a.y * b.y - a.z * b.z);
        }
        public static Vector3 operator *(Quaternion q, Vector3 v)
        {
            Quaternion r = q * new Quaternion(v.x, v.y, v.z, 0) * Inverse(q);
            return new Vector3(r.x, r.y, r.z);
        }
    }

    public class Object { }
    public class Component : Object
    {
        public Transform transform;
        public readonly List<Component> others = new List<Component>();
        public T GetComponent<T>() where T : Component { return (T)others.Find(c => c is T); }
    }
    public class Behaviour : Component { public bool enabled = true; }
    public class MonoBehaviour : Behaviour { }

    public class Transform : Component
    {
        public string name;
        public Transform parent;
        public Vector3 localPosition, localScale = Vector3.one;
        public Quaternion localRotation = Quaternion.identity;
        public Quaternion rotation
        {
            get { return parent == null ? localRotation : parent.rotation * localRotation; }
            set { localRotation = parent == null ? value : Quaternion.Inverse(parent.rotation) * value; }
        }
        public Vector3 position
        {
            get { return parent == null ? localPosition : parent.TransformPoint(localPosition); }
            set
            {
                if (parent == null) localPosition = value;
                else localPosition = Quaternion.Inverse(parent.rotation) * (value - parent.position);
            }
        }
        public Vector3 TransformPoint(Vector3 p) { return position + rotation * Vector3.Scale(localScale, p); }
    }

    public enum HumanBodyBones
    {
        Hips, LeftUpperLeg, RightUpperLeg, LeftLowerLeg, RightLowerLeg, LeftFoot, RightFoot, Spine, Chest, Neck, Head,
        LeftShoulder, RightShoulder, LeftUpperArm, RightUpperArm, LeftLowerArm, RightLowerArm, LeftHand, RightHand,
        LeftToes, RightToes, UpperChest = 54
    }
    public struct SkeletonBone { public string name; public Vector3 position, scale; public Quaternion rotation; }
    public struct HumanDescription { public SkeletonBone[] skeleton; }
    public class Avatar : Object { public bool isHuman; public HumanDescription humanDescription; }
    public class Animator : Behaviour
    {
        public Avatar avatar;
        public readonly Dictionary<HumanBodyBones, Transform> found = new Dictionary<HumanBodyBones, Transform>();
        public Transform GetBoneTransform(HumanBodyBones bone) { return found.ContainsKey(bone) ? found[bone] : null; }
    }
    public static class Debug
    {
        public static void LogError(object text, Object context) { Console.Error.WriteLine(text); }
    }

    public enum RuntimeInitializeLoadType { SubsystemRegistration }
    public class RequireComponent : Attribute { public RequireComponent(Type type) { } }
    public class TooltipAttribute : Attribute { public TooltipAttribute(string text) { } }
    public class RuntimeInitializeOnLoadMethodAttribute : Attribute
    {
        public RuntimeInitializeOnLoadMethodAttribute(RuntimeInitializeLoadType type) { }
    }
}

namespace UnityEditor
{
    public static class AssemblyReloadEvents
    {
        public delegate void AssemblyReloadCallback();
        public static event AssemblyReloadCallback beforeAssemblyReload;
        public static void Reload() { if (beforeAssemblyReload != null) beforeAssemblyReload(); }
    }
}

namespace Tests
{
    using UnityEngine;

    public static class Program
    {
        static Vector3 Point(JToken p) { return new Vector3((float)p[0], (float)p[1], (float)p[2]); }
        static Quaternion Turn(JToken q) { return new Quaternion((float)q[0], (float)q[1], (float)q[2], (float)q[3]); }

        static void Call(MocapReceiver receiver, string name)
        {
            const BindingFlags hidden = BindingFlags.Instance | BindingFlags.NonPublic;
            typeof(MocapReceiver).GetMethod(name, hidden).Invoke(receiver, null);
        }

        // The avatar stands bent, as avatars in a scene do; its T-pose is in the description alone.
        static MocapReceiver Build(JArray bones, List<Transform> made)
        {
            var root = new Transform { name = "Avatar", localRotation = new Quaternion(0, 0.6f, 0, 0.8f) };
            var skeleton = new List<SkeletonBone>();
            var animator = new Animator { transform = root, avatar = new Avatar { isHuman = true } };
            foreach (JToken bone in bones)
            {
                var t = new Transform { name = "rig:" + bone["name"], localPosition = Point(bone["position"]) };
                t.parent = (int)bone["parent"] < 0 ? root : made[(int)bone["parent"]];
                t.localRotation = new Quaternion(0.6f, 0, 0.8f, 0) * Turn(bone["rotation"]);
                made.Add(t);
                var rest = new SkeletonBone { name = t.name, position = t.localPosition, scale = Vector3.one };
                rest.rotation = Turn(bone["rotation"]);
                skeleton.Add(rest);
                animator.found[(HumanBodyBones)Enum.Parse(typeof(HumanBodyBones), (string)bone["name"])] = t;
            }
            animator.avatar.humanDescription.skeleton = skeleton.ToArray();
            var receiver = new MocapReceiver { transform = root };
            receiver.others.Add(animator);
            return receiver;
        }

        public static int Main(string[] arguments)
        {
            var made = new List<Transform>();
            MocapReceiver receiver = Build(JArray.Parse(File.ReadAllText(arguments[1])), made);
            receiver.address = arguments[0];
            receiver.fitLegs = bool.Parse(arguments[2]);
            MocapReceiver other = Build(JArray.Parse(File.ReadAllText(arguments[1])), new List<Transform>());
            other.address = arguments[0];
            // what Play, Stop and a reload of scripts do, with another receiver there and without
            Call(receiver, "OnEnable"); Call(other, "OnEnable"); Call(receiver, "OnDisable"); Call(other, "OnDisable");
            Call(receiver, "OnEnable");
            UnityEditor.AssemblyReloadEvents.Reload();
            Call(receiver, "OnEnable");
            if (!receiver.enabled) return 1;
            Quaternion before = made[0].localRotation;
            for (int i = 0; i < 3000 && before.Equals(made[0].localRotation); i++)
            {
                Call(receiver, "LateUpdate");
                Thread.Sleep(5);
            }
            foreach (Transform t in made)
                Console.WriteLine(FormattableString.Invariant($"{t.position.x} {t.position.y} {t.position.z}"));
            Call(receiver, "OnDisable");
            return 0;
        }
    }
}
