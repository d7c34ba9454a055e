"""The networks on landmarks: what they are taught by, in which stage, and that a file of them says the same."""

import tomllib

import numpy as np
import onnxruntime
import pytest
import torch

from pipeline.body import BodyModel
from training import average, train
from training.ablations import COLUMNS, RUNS, ablation
from training.export import OUTPUTS, export
from training.losses import Bodies, Weights, distortion, full_picture, terms, with_camera, with_up_in_ray
from training.network import (
    HIPS,
    INPUTS,
    N_TAPS,
    UNKNOWN_CAMERA,
    LandmarkNet,
    OrientCorrect,
    Sizes,
    box_of,
    camera_features,
    exp_turn,
    ray_rotation,
)
from training.scene_cameras import random_cameras
from training.scene_errors import less_turned, limbs_apart, milder
from training.scenes import FIELDS, Motions, Scenes, varied
from training.train_corrector import angle_of, perturbed, world_of

SMALL = Sizes(width=48, older=16, blocks=1)


class Faultless:
    """A landmark network that errs in nothing: true image landmarks, true metric ones."""

    def sample(self, landmarks_camera, K, size_wh, stature_m, t_s, generator, hidden_by_m=None):
        from training.error_model import Found

        uv = landmarks_camera / landmarks_camera[..., 2:].clamp_min(0.05) @ K[:, None].transpose(-1, -2)
        hips = landmarks_camera[:, :, list(HIPS)].mean(2)
        about = (landmarks_camera - hips[:, :, None]) @ ray_rotation(hips)
        everywhere = torch.ones(landmarks_camera.shape[:-1])
        return Found(uv[..., :2], everywhere, about, everywhere[..., 0].bool())


def wave(n=90):
    """Somebody who stands, turns a little and lifts an arm."""
    from pipeline.frames import exp_so3, quat_xyzw

    Rs = np.tile(np.eye(3), (n, 24, 1, 1))
    t = np.linspace(0, 2 * np.pi, n)
    Rs[:] = exp_so3(np.stack([0 * t, 0.5 * np.sin(t), 0 * t], -1))[:, None]
    Rs[:, [16, 18, 20, 22]] = (exp_so3(np.stack([0 * t, 0 * t, np.sin(2 * t)], -1)) @ Rs[:, 0])[:, None]
    root = np.tile([0.0, 0.95, 0.0], (n, 1))
    return torch.tensor(quat_xyzw(Rs), dtype=torch.float32), torch.tensor(root, dtype=torch.float32)


@pytest.fixture(scope="module")
def scenes():
    quats, root = wave()
    motions = Motions(quats, root, torch.tensor([0]), torch.tensor([len(root)]), torch.tensor([1.0]), 30.0)
    return Scenes(motions, Faultless(), BodyModel.load())


@pytest.fixture(scope="module")
def windows(scenes):
    return scenes.batch(256, torch.Generator().manual_seed(4))


def test_scenes_hold_what_they_say(windows):
    n = len(windows["ages_s"])
    assert n > 64
    for name, (shape, dtype) in FIELDS.items():
        assert windows[name].shape == (n, *shape)
        assert windows[name].dtype == dtype
        assert torch.isfinite(windows[name].float()).all()
    # True landmarks in ray axes, turned and put in their place, are seen where the picture has them
    place, f = windows["place_m"], windows["focal_px"][:, None, None]
    points = windows["true_ray_m"].float() @ ray_rotation(place).transpose(1, 2) + place[:, None]
    uv = points[..., :2] / points[..., 2:] * f + (windows["size_wh"][:, None] - 1) / 2
    near = points[..., 2].amin(1) > 0.3
    share = (uv - windows["true_px"]).abs().amax((1, 2)) / windows["focal_px"]
    assert share[near].max() < 0.01  # half precision of the points


def test_the_body_is_the_landmarks_body(windows):
    """Rotations and shape of the truth give its landmarks: the labels belong together."""
    posed = Bodies()(windows["Rs_6d"].float(), windows["betas"].float())
    assert (posed.landmarks - windows["true_ray_m"].float()).abs().max() < 0.004


def test_same_seed_same_scenes(scenes):
    a, b, c = (scenes.batch(32, torch.Generator().manual_seed(k)) for k in (1, 1, 2))
    assert all(torch.equal(a[name], b[name]) for name in FIELDS)
    assert not torch.equal(a["focal_px"][:8], c["focal_px"][:8])


def test_errors_are_milder_in_many_windows_by_a_share_of_their_own():
    g = torch.Generator().manual_seed(0)
    camera = 0.3 * torch.randn(400, N_TAPS, 33, 3, generator=g) + torch.tensor([0.0, 0.0, 4.0])
    hips = camera[:, :, list(HIPS)].mean(2)
    about = (camera - hips[:, :, None]) @ ray_rotation(hips)
    uv = 900 * camera[..., :2] / camera[..., 2:]
    off_px, off_m = torch.randn(uv.shape, generator=g), 0.05 * torch.randn(about.shape, generator=g)
    px, metres = milder(uv + off_px, about + off_m, uv, camera, g)
    share = ((px - uv) * off_px).sum((1, 2, 3)) / (off_px**2).sum((1, 2, 3))
    rest = (px - uv) - share[:, None, None, None] * off_px
    assert rest.abs().max() < 1e-2  # pixels, about a thousand, in single precision
    assert 0.4 < (share > 0.999).float().mean() < 0.6
    assert ((share >= -1e-3) & (share < 1.001)).all()
    assert 0.4 < share[share < 0.999].mean() < 0.6
    left = (metres - about).norm(dim=-1).mean((1, 2)) / off_m.norm(dim=-1).mean((1, 2))
    assert (left - share).abs().median() < 0.1


def test_parts_of_a_body_err_apart_along_the_view():
    g = torch.Generator().manual_seed(0)
    camera = 0.3 * torch.randn(400, N_TAPS, 33, 3, generator=g) + torch.tensor([0.0, 0.0, 4.0])
    hips = camera[:, :, list(HIPS)].mean(2)
    about = (camera - hips[:, :, None]) @ ray_rotation(hips)
    off = 0.001 * torch.randn(about.shape, generator=g)
    found = limbs_apart(about + off, camera, g)
    assert torch.equal(found[..., :2], (about + off)[..., :2])
    assert torch.equal(found[:, :, 23:25], (about + off)[:, :, 23:25])
    # Sizes are those of the landmarks found, which err: shares are told from many
    share = [
        (((found - about)[:, :, part, 2] * off[:, :, part, 2]).sum((1, 2)) / off[:, :, part, 2].square().sum((1, 2)))
        for part in (slice(0, 13), slice(13, 23), slice(25, 33))
    ]
    for values in share:
        assert 0.3 < (values > 0.9).float().mean() < 0.55
        assert values.min() > -0.6
        assert 0.1 < values[values < 0.9].mean() < 0.5
    assert abs(float(torch.corrcoef(torch.stack(share))[0, 1])) < 0.15


def test_bodies_are_turned_off_the_truth_by_less():
    g = torch.Generator().manual_seed(0)
    camera = 0.3 * torch.randn(400, N_TAPS, 33, 3, generator=g) + torch.tensor([0.0, 0.0, 4.0])
    hips = camera[:, :, list(HIPS)].mean(2)
    about = (camera - hips[:, :, None]) @ ray_rotation(hips)
    off = exp_turn(torch.nn.functional.normalize(torch.randn(400, 3, generator=g), dim=1) * 0.3)[:, None]
    found = less_turned(about @ off.transpose(-1, -2), camera, g)
    # What is left is the same turn, a part of it, of all pictures
    left = [angle_of(kabsch(about[:, k], found[:, k]), torch.eye(3).expand(400, 3, 3)) for k in (0, N_TAPS - 1)]
    assert (left[0] - left[1]).abs().max() < 1e-3
    assert left[0].max() < 0.301
    assert 0.15 < (left[0] > 0.299).float().mean() < 0.25
    assert 0.1 < left[0][left[0] < 0.299].mean() < 0.2
    assert (found.norm(dim=-1) - about.norm(dim=-1)).abs().max() < 1e-4


def kabsch(a, b):
    """Rotations (B, 3, 3) that turn points a (B, N, 3) onto b."""
    U, _, Vh = torch.linalg.svd(b.transpose(1, 2) @ a)
    return U @ torch.diag_embed(torch.stack([torch.ones(len(a)), torch.ones(len(a)), torch.det(U @ Vh)], 1)) @ Vh


def test_cameras_stand_where_people_put_them():
    g = torch.Generator().manual_seed(0)
    cameras = random_cameras(torch.tensor([[0.0, 0.9, 0.0]]).expand(4000, 3), g)
    pitch = torch.rad2deg(torch.asin((-cameras.up_camera[:, 2]).clamp(-1, 1)))
    assert torch.linalg.det(cameras.R_world_camera).sub(1).abs().max() < 1e-4
    assert pitch.quantile(0.01) > -45
    assert pitch.quantile(0.99) < 85
    assert 0.5 < (cameras.K[:, 0, 0] / cameras.size_wh.amax(1)).median() < 1.2


def test_other_arms_leave_bones_and_upright_roots(scenes):
    Rs, _ = scenes.motions.windows(64, torch.Generator().manual_seed(3))
    mixed = varied(Rs, torch.Generator().manual_seed(3))
    assert (mixed @ mixed.transpose(-1, -2) - torch.eye(3)).abs().max() < 1e-4
    lean = torch.acos(mixed[:, 0, 0, 1, 1].clamp(-1, 1))
    assert torch.rad2deg(lean).median() < 6


def test_focal_length_follows_from_distance_and_weak_camera(windows):
    """f = s b Tz / 2: with the true body, its weak camera and its true distance, the true focal length comes out."""
    place, box = windows["place_m"], box_of(windows["points_px"][:, 0], windows["visibility"][:, 0].float())
    distance = place[:, 2]
    middle = (windows["size_wh"] - 1) / 2
    s = 2 * windows["focal_px"] / (box[:, 2] * distance)
    hips = place[:, :2] / place[:, 2:] * windows["focal_px"][:, None] + middle
    shift = (hips - box[:, :2]) * 2 / (box[:, 2:] * s[:, None])
    uv, focal = full_picture(windows["true_ray_m"].float(), torch.cat([s[:, None], shift], 1), distance.log(), box,
                             windows["size_wh"])  # fmt: skip
    assert (focal / windows["focal_px"] - 1).abs().max() < 1e-4
    assert ((uv - windows["true_px"]).norm(dim=-1) / windows["focal_px"][:, None]).median() < 1e-3


def reached(stage, term, windows, **changed):
    """Which parameters a loss term's gradient reaches."""
    torch.manual_seed(0)
    net = LandmarkNet(SMALL)
    batch = with_up_in_ray({k: v.float() for k, v in windows.items()})
    batch = with_camera(batch, torch.Generator().manual_seed(0))
    out = net(*(batch[name] for name in INPUTS), detach_distance=stage == 1)
    terms(out, batch, Bodies(), stage, **changed)[term].backward()
    return {name: p.grad for name, p in net.named_parameters() if p.grad is not None and p.grad.abs().max() > 0}


@pytest.mark.parametrize("stage", [1, 2])
def test_the_true_body_teaches_the_distance_and_nothing_else_but_features(windows, stage):
    heads = {name.partition(".")[0] for name in reached(stage, "distance", windows)}
    assert "distance" in heads
    assert not heads & {"focal", "body", "free", "up"}  # no label of a focal length is in it
    assert (heads == {"distance"}) == (stage == 1)


def test_full_picture_teaches_the_body_but_neither_distance_nor_weak_camera(windows):
    names = reached(2, "full", windows)
    assert {"trunk", "body", "newest"} <= {name.partition(".")[0] for name in names}
    assert not any(name.startswith(("distance", "focal")) for name in names)
    assert names["body.out.weight"][-3:].abs().max() == 0  # the weak camera is taught by the crop alone
    assert names["body.out.weight"][:144].abs().max() > 0


@pytest.mark.parametrize("stage", [1, 2])
def test_the_regressed_body_teaches_the_distance_in_the_papers_way(windows, stage):
    heads = {name.partition(".")[0] for name in reached(stage, "full", windows, regressed=True)}
    assert ("body" in heads) == (stage == 2)
    assert "distance" in heads


def test_reprojection_of_true_bodies_finds_distances_without_a_label(windows):
    """Least at the true distance, though the weak camera's place and size are wrong."""
    near = windows["place_m"][:, 2] < 2.5
    batch = {k: v[near].double() for k, v in windows.items()}
    distance = batch["place_m"][:, 2]
    box = box_of(batch["points_px"][:, 0], batch["visibility"][:, 0])
    s = 2 * batch["focal_px"] / (box[:, 2] * distance)
    middle = (batch["size_wh"] - 1) / 2
    hips = batch["place_m"][:, :2] / distance[:, None] * batch["focal_px"][:, None] + middle
    shift = (hips - box[:, :2]) * 2 / (box[:, 2:] * s[:, None]) + 0.02
    weak = torch.cat([1.1 * s[:, None], shift], 1)
    left = []
    for factor in (0.6, 1.0, 1.7):
        uv, _ = full_picture(batch["true_ray_m"], weak, (factor * distance).log(), box, batch["size_wh"])
        left.append(distortion(uv[:, 11:29], batch["true_px"][:, 11:29]).abs().mean((1, 2)).median())
    assert left[1] < 0.5 * min(left[0], left[2])


def test_what_is_believed_of_the_camera_helps_the_body_alone(windows):
    """Gravity and focal length are read without it: a calibration must not hear its own echo."""
    torch.manual_seed(0)
    net = LandmarkNet(SMALL).eval()
    data = {k: v.float() for k, v in windows.items()}
    g = torch.Generator().manual_seed(0)
    with torch.no_grad():
        knows, guesses = (
            net(*(with_camera(data, g, share)[name] for name in INPUTS)) for share in (1.0, 0.0)
        )  # fmt: skip
    for name in ("up_ray", "log_kappa", "labelled_focal", "log_distance", "feature", "box"):
        assert torch.equal(knows[name], guesses[name])
    assert (knows["landmarks_m"] - guesses["landmarks_m"]).abs().max() > 0
    focals = [net.reprojected_focal(out, data["points_px"][:, 0], data["size_wh"]) for out in (knows, guesses)]
    assert torch.equal(*focals)
    blind = 0.5 * guesses["weak_camera"][:, 0] * guesses["box"][:, 2] * guesses["log_distance"].exp()
    assert torch.allclose(focals[1].exp() * data["size_wh"].amax(1), blind, rtol=1e-5)  # f = s b Tz / 2


def test_beliefs_err_as_they_say(windows):
    data = {k: v.float() for k, v in windows.items()}
    believed = with_camera(data, torch.Generator().manual_seed(0), 1.0)["camera"]
    off = torch.acos((believed[:, :3] * data["up_camera"]).sum(1).clamp(-1, 1)) / believed[:, 3]
    assert 0.5 < off.median() / 1.25 < 2.0  # two axes of a normal error, its scale told wrong by up to a factor of two
    wrong = (believed[:, 4] - (data["focal_px"] / data["size_wh"].amax(1)).log()).abs() / believed[:, 5]
    assert 0.5 < wrong.median() / 0.67 < 2.0
    nothing = with_camera(data, torch.Generator().manual_seed(0), 0.0)["camera"]
    assert (nothing == torch.tensor(UNKNOWN_CAMERA)).all()
    seen = camera_features(nothing, data["points_px"][:, 0], data["size_wh"])
    assert seen.abs().max() < 1e-5
    # A sure vertical is seen from the ray through the hips, as the network's own is
    exact = torch.cat([data["up_camera"], torch.zeros(len(off), 1), (data["focal_px"] / data["size_wh"].amax(1)).log()
                       [:, None], torch.zeros(len(off), 1)], 1)  # fmt: skip
    up_ray = with_up_in_ray(data)["up_ray"]
    assert (camera_features(exact, data["true_px"], data["size_wh"])[:, :3] - up_ray).abs().max() < 0.01


def test_crop_teaches_the_weak_camera(windows):
    assert reached(2, "crop", windows)["body.out.weight"][-3:].abs().max() > 0


def test_focal_labels_reach_their_own_head_only_in_stage_1(windows):
    assert {name.partition(".")[0] for name in reached(1, "focal", windows)} == {"focal"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory, scenes):
    path = tmp_path_factory.mktemp("training")
    for name, seed in (("train", 1), ("held_out", 2)):
        torch.save(scenes.batch(300, torch.Generator().manual_seed(seed)), path / f"{name}.pt")
    return path


def config_of(epochs):
    return {"seed": 3, "sizes": {"width": 48, "older": 16, "blocks": 1}, "weights": vars(Weights()).copy(),
            "stage1": {"epochs": epochs, "batch": 32}, "stage2": {"epochs": 1, "batch": 32},
            "stage3": {"epochs": 1, "batch": 32}}  # fmt: skip


def test_three_stages_learn_resume_and_export(folder, tmp_path, caplog):
    caplog.set_level("INFO")
    whole = train.train(1, folder, tmp_path / "whole", config_of(3)) if (tmp_path / "whole").mkdir() is None else {}
    again = train.train(1, folder, tmp_path / "whole", config_of(3))
    assert again == {}  # nothing was left to do
    first = next(r.message for r in caplog.records if "epoch 1" in r.message)
    assert whole["up_deg"] < float(first.split('"up_deg": ')[1].split(",")[0])
    train.train(2, folder, tmp_path / "whole", config_of(3))
    before = torch.load(tmp_path / "whole" / "stage2.pt", weights_only=True)["average"]
    from training.train_corrector import train_corrector

    report = train_corrector(folder, tmp_path / "whole", config_of(3))
    assert report["before_0_deg"] > 0
    after = torch.load(tmp_path / "whole" / "stage2.pt", weights_only=True)["average"]
    assert all(torch.equal(before[name], after[name]) for name in before)  # frozen
    net_file, corrector_file, _ = export(tmp_path / "whole", config_of(3), tmp_path)
    net = LandmarkNet(SMALL)
    net.load_state_dict({name: value.half().float() for name, value in after.items()})  # as it ships
    net.eval()
    session = onnxruntime.InferenceSession(str(net_file))
    data = torch.load(folder / "held_out.pt", weights_only=True)
    data = with_camera(data, torch.Generator().manual_seed(0))
    for batch in (1, 3):
        feed = {name: data[name][:batch].float().numpy() for name in INPUTS}
        with torch.no_grad():
            wanted = net(*(torch.from_numpy(v) for v in feed.values()))
            posed = Bodies()(wanted["Rs_6d"], wanted["betas"]).landmarks
            taught = net.reprojected_focal(wanted, torch.from_numpy(feed["points_px"])[:, 0],
                                           torch.from_numpy(feed["size_wh"]))  # fmt: skip
        wanted["landmarks_m"] = (wanted["landmarks_m"] + posed) / 2  # the hybrid of both branches
        wanted["log_focal"] = torch.stack([taught, wanted["labelled_focal"][:, 1]], 1)
        got = dict(zip(OUTPUTS, session.run(list(OUTPUTS), feed), strict=True))
        assert max(np.abs(got[name] - wanted[name].numpy()).max() for name in OUTPUTS if name != "box") < 1e-4
    assert corrector_file.stat().st_size > 1000


def test_ablations_change_what_they_say(folder, tmp_path):
    reports = {}
    for name, changed, staged in RUNS:
        reports[name] = ablation(folder, tmp_path / name[:8], config_of(1), changed, staged, (1, 1))
        assert set(COLUMNS) <= set(reports[name])
        assert ablation(folder, tmp_path / name[:8], config_of(1), changed, staged, (1, 1)) == reports[name]  # is kept
    ships, together, weak, regressed, unlabelled = reports.values()
    assert len({r["body_mm"] for r in (ships, together, weak, regressed)}) == 4
    untaught = torch.load(tmp_path / RUNS[2][0][:8] / "stage1.pt", weights_only=True)["net"]["distance.out.bias"]
    assert untaught.abs().max() < 1e-6  # nothing but reprojection teaches the distance
    assert unlabelled["focal_label"] != ships["focal_label"]


def test_checkpoints_of_one_network_are_averaged(tmp_path, capsys):
    files = [tmp_path / f"{k}.pt" for k in range(3)]
    for k, file in enumerate(files):
        torch.save({"average": {"a": torch.full((2,), float(k)), "n": torch.tensor(6 * k)}}, file)
    assert average.main([*map(str, files), "--out", str(tmp_path / "mean.pt")]) == 0
    mean = torch.load(tmp_path / "mean.pt", weights_only=True)["average"]
    assert mean["a"].tolist() == [1.0, 1.0]
    assert mean["n"].item() == 6
    torch.save({"average": {"a": torch.zeros(3)}}, files[1])
    assert average.main([*map(str, files), "--out", str(tmp_path / "none.pt")]) == 2
    assert "1.pt: expected the network of" in capsys.readouterr().err


def test_one_part_learns_while_all_else_is_frozen(folder, tmp_path, capsys):
    start = tmp_path / "start.pt"
    net = train.new_network(config_of(1))
    torch.save({"average": net.state_dict()}, start)
    train.train(2, folder, tmp_path, config_of(1), start, only="distance")
    after = torch.load(tmp_path / "stage2.pt", weights_only=True)["net"]
    changed = {name for name, value in net.state_dict().items() if not torch.equal(value, after[name])}
    assert changed
    assert all(name.startswith("distance.") for name in changed)
    with pytest.raises(ValueError, match=r"one of .*distance.*, got 'Tz'"):
        train.train(2, folder, tmp_path, config_of(1), start, only="Tz")
    with pytest.raises(SystemExit):
        train.main(["--stage", "2", "--data", str(folder), "--work", str(tmp_path), "--only", "Tz"])
    assert "--only: Expected a part of the network" in capsys.readouterr().err


def test_training_goes_on_where_it_was_stopped(folder, tmp_path):
    ends = []
    for name, steps in (("once", (2,)), ("twice", (1, 2))):
        (tmp_path / name).mkdir()
        for epochs in steps:
            config = config_of(2) | {"stop_after": epochs}
            train.train(1, folder, tmp_path / name, config)
        ends.append(torch.load(tmp_path / name / "stage1.pt", weights_only=True)["average"])
    assert all(torch.equal(ends[0][k], ends[1][k]) for k in ends[0])


def test_corrector_starts_as_no_turn_and_knows_its_frames():
    torch.manual_seed(1)
    up = torch.nn.functional.normalize(torch.randn(16, 3) * 0.2 + torch.tensor([0.0, -1.0, 0.0]), dim=-1)
    R = world_of(up)
    assert torch.allclose((R @ up[..., None])[..., 0], torch.tensor([0.0, 1.0, 0.0]).expand(16, 3), atol=1e-5)
    assert torch.linalg.det(R).sub(1).abs().max() < 1e-5
    corrector = OrientCorrect(32)
    turn, _ = corrector(torch.randn(16, 32), R, R, up, torch.zeros(16))
    assert torch.rad2deg(turn.norm(dim=-1)).max() < 5
    off = torch.rad2deg(torch.acos((perturbed(up, torch.Generator().manual_seed(0)) * up).sum(-1).clamp(-1, 1)))
    assert off.max() > 1
    assert torch.allclose(angle_of(exp_turn(0.3 * up), torch.eye(3).expand(16, 3, 3)), torch.tensor(0.3), atol=1e-4)


def test_the_configuration_that_ships_is_one():
    config = tomllib.loads(train.CONFIG.read_text())
    assert Weights(**config["weights"]).full > 0
    net = train.new_network(config)
    n = sum(p.numel() for p in net.parameters())
    assert 1e6 < n < 6e6
    assert N_TAPS == 5
