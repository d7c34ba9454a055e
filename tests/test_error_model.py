"""The learned errors of landmarks: geometry there and back, what `sample` keeps, and a fit on made-up renders."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from benchmarks.synthetic import SIZE_WH, arms_down, camera, in_camera, stand, walking
from pipeline.body import BodyModel
from pipeline.frames import normalize, shortest_rotation
from training.error_geometry import (
    N_TARGETS,
    OTHER,
    Views,
    exchanged,
    mirror_features,
    mirror_targets,
    turn_to_z,
)
from training.error_model import FORMAT, LandmarkErrors
from training.error_model_fit import Examples, fit, ground
from training.error_model_report import TABLES, put_into
from training.error_network import mirror_keys, view_keys
from training.error_renders import Renders, flips_of, held_out
from training.error_tables import joint_errors, table
from training.error_two_sample import told_apart

STATURE_M = 1.7


def bodies(n: int, pictures: int, seed: int) -> Renders:
    """Walkers before one camera, every landmark off by a little more the less it is seen."""
    calibration, body, rng = camera(), BodyModel.load(), np.random.default_rng(seed)
    points = np.zeros((n, pictures, 33, 3))
    for i in range(n):
        yaw, x, z, phase = rng.uniform(-3, 3), rng.uniform(-1, 1), rng.uniform(-5.5, -3.0), rng.uniform(0, 6)
        for t in range(pictures):
            posed = stand(body, walking(phase + 0.3 * t), yaw, (x, z))
            points[i, t] = in_camera(posed.landmarks, calibration)
    truth = torch.tensor(points, dtype=torch.float32)
    K = torch.tensor(calibration.K, dtype=torch.float32).expand(n, 3, 3)
    size = torch.tensor([SIZE_WH] * n, dtype=torch.float32)
    stature = torch.full((n,), STATURE_M)
    views = Views.of(truth, K, size, stature, None)
    g = torch.Generator().manual_seed(seed)
    N = n * pictures
    slow = torch.randn(n, 1, N_TARGETS, generator=g).expand(n, pictures, N_TARGETS).reshape(N, -1)
    targets = 0.8 * slow + 0.6 * torch.randn(N, N_TARGETS, generator=g)
    targets[:, :66] *= 0.01
    targets[:, 66:99] = 0.05 * targets[:, 66:99] + 0.6 * views.encode(*exact(views))[:, 66:99]
    targets[:, 99:165] *= 0.005
    targets[:, 165:198] += 2.0
    targets[:, 198:200] *= 0.1
    targets[:, 200] = 0.5 + 0.05 * targets[:, 200]
    px, visibility, metres = (v.unflatten(0, (n, pictures)) for v in views.decode(targets))
    found = torch.rand(n, pictures, generator=g) < 0.9
    return Renders(truth, K, size, stature, torch.full((n, pictures, 33), torch.nan), px, metres, visibility, found,
                   torch.arange(n) % 7)  # fmt: skip


def exact(views: Views) -> tuple[Tensor, Tensor, Tensor]:
    """Pixels, visibility and metric landmarks of a network that does not err but for assumed perspective."""
    metres = (views.points * views.stature_m[:, None, None]).clone()
    cos, sin = views.roll[:, :1], views.roll[:, 1:]
    x, y = metres[..., 0], metres[..., 1]
    turned = torch.stack([cos * x + sin * y, cos * y - sin * x, metres[..., 2]], -1)
    return views.pixels(views.plane), torch.full(metres.shape[:2], 0.9), turned


@pytest.fixture(scope="module")
def walkers() -> Renders:
    return bodies(60, 3, 1)


@pytest.fixture(scope="module")
def tensors(walkers: Renders) -> dict[str, Tensor]:
    return {k: v.contiguous() for k, v in fit([walkers], 100, 25, 1).items()}


@pytest.fixture(scope="module")
def model(tensors: dict[str, Tensor]) -> LandmarkErrors:
    return LandmarkErrors(tensors)


def sampled(model: LandmarkErrors, r: Renders, seed: int = 3, step_s: float = 0.1) -> tuple[Tensor, ...]:
    times = step_s * torch.arange(r.landmarks.shape[1])
    f = model.sample(
        r.landmarks, r.K, r.size_wh, r.stature_m, times, torch.Generator().manual_seed(seed), r.hidden_by_m
    )
    return f.points_px, f.visibility, f.points_m, f.found


def test_what_is_encoded_is_decoded(walkers: Renders) -> None:
    views = walkers.views()
    px, vis, metres = (getattr(walkers, k).flatten(0, 1) for k in ("points_px", "visibility", "points_m"))
    back = views.decode(views.encode(px, vis, metres))
    for got, wanted, limit in zip(back, (px, vis, metres), (2e-2, 1e-4, 1e-5), strict=True):
        assert (got - wanted).abs().max() < limit


def test_true_landmarks_are_projected_onto_themselves(walkers: Renders) -> None:
    views = walkers.views()
    P = walkers.landmarks.flatten(0, 1)
    K = walkers.K[0]
    uv = (P / P[..., 2:]) @ K[:2].T
    assert (views.pixels(views.plane) - uv).abs().max() < 1e-2
    assert (views.plane_of(uv) - views.plane).abs().max() < 1e-5


def test_the_turn_is_the_smallest_one() -> None:
    rng = np.random.default_rng(0)
    unit = normalize(rng.normal((0.0, 0.0, 2.0), size=(50, 3)))
    wanted = shortest_rotation(unit, np.broadcast_to([0.0, 0.0, 1.0], unit.shape))
    np.testing.assert_allclose(turn_to_z(torch.tensor(unit)).numpy(), wanted, atol=1e-9)


def test_features_do_not_depend_on_scale_and_roll_of_the_picture(walkers: Renders) -> None:
    """Twice as large a person twice as far away with pictures of twice the size is the same view."""
    views = walkers.views()
    larger = Views.of(2 * walkers.landmarks, walkers.K, walkers.size_wh, 2 * walkers.stature_m, None)
    assert (larger.features() - views.features()).abs().max() < 1e-4
    assert (views.points[:, [11, 12, 0]].mean(1)[:, 0]).abs().max() < 0.05  # trunks point up


def test_a_mirror_twice_is_nothing(walkers: Renders) -> None:
    views = walkers.views()
    features = views.features()
    assert torch.equal(mirror_features(mirror_features(features)), features)
    targets = torch.randn(5, N_TARGETS, generator=torch.Generator().manual_seed(0))
    assert (mirror_targets(mirror_targets(targets)) - targets).abs().max() < 1e-5


def test_views_of_mirrored_people_are_mirrored_views(walkers: Renders) -> None:
    other = torch.tensor([-1.0, 1.0, 1.0]) * walkers.landmarks[:, :, OTHER]
    mirrored = Views.of(other, walkers.K, walkers.size_wh, walkers.stature_m, None).features()
    wanted = mirror_features(walkers.views(measured=False).features())
    wanted[:, 264] = 1.0  # the camera itself is not mirrored
    assert (mirrored - wanted).abs().max() < 1e-3


def test_hands_behind_the_trunk_are_hidden() -> None:
    body, calibration = BodyModel.load(), camera(pitch_deg=0.0, roll_deg=0.0)
    hidden = {}
    for yaw in (0.0, np.pi / 2):
        points = in_camera(stand(body, arms_down(), yaw, (0.0, -4.0)).landmarks, calibration)
        K = torch.tensor(calibration.K, dtype=torch.float32)[None]
        views = Views.of(torch.tensor(points, dtype=torch.float32)[None, None], K, torch.tensor([SIZE_WH]).float(),
                         torch.tensor([STATURE_M]), None)  # fmt: skip
        hidden[yaw] = views.hidden[0, [13, 14]]
    assert hidden[0.0].max() < 0.05
    assert hidden[np.pi / 2].max() > 0.08
    assert hidden[np.pi / 2].min() < 0.05


@pytest.mark.parametrize(("state", "changed"), [(0, 0), (1, 32), (2, 10), (3, 8)])
def test_sides_change_places(state: int, changed: int) -> None:
    marks = torch.arange(33.0)[None]
    got = exchanged(marks, torch.tensor([state]))
    assert int((got != marks).sum()) == changed
    assert torch.equal(exchanged(got, torch.tensor([state])), marks)


@pytest.mark.parametrize("state", [0, 1, 2, 3])
def test_exchanged_sides_are_seen(walkers: Renders, state: int) -> None:
    views = walkers.views()
    exact_px = views.pixels(views.plane)
    turned = exchanged(exact_px, torch.full((len(exact_px),), state))
    parts = {1: slice(11, 33), 2: slice(13, 17), 3: slice(25, 29)}
    apart = torch.ones(len(exact_px), dtype=torch.bool)
    if state:
        part = parts[state]
        apart = (views.plane[:, part] - views.plane[:, OTHER][:, part]).norm(dim=-1).median(1).values > 0.05
    assert int(apart.sum()) > 20
    assert (flips_of(views, turned)[apart] == state).all()


def test_components_are_orthonormal_and_keep_mirrors(walkers: Renders) -> None:
    x = Examples.of(walkers)
    base = ground(x)
    basis, scale = base["basis"], base["target_scale"]
    assert (basis @ basis.T - torch.eye(N_TARGETS)).abs().max() < 1e-4
    seen = (mirror_targets(basis * scale) / scale @ basis.T).abs()
    assert ((seen.max(1).values - 1.0).abs() < 1e-3).all()


def test_keys_of_mirrored_features_are_mirrored_keys(model: LandmarkErrors, walkers: Renders) -> None:
    features = walkers.views().features()
    said = torch.zeros(len(features), 33), torch.zeros(len(features), 33)
    weights = model.weights | {"target_mean": torch.zeros(N_TARGETS)}
    keys = view_keys(features, *said, weights)
    assert (view_keys(mirror_features(features), *said, weights) - mirror_keys(keys)).abs().max() < 1e-4


def test_the_same_generator_gives_the_same(model: LandmarkErrors, walkers: Renders) -> None:
    a, b, c = sampled(model, walkers, 3), sampled(model, walkers, 3), sampled(model, walkers, 4)
    assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
    assert not torch.equal(a[0], c[0])
    assert [tuple(v.shape[2:]) for v in a] == [(33, 2), (33,), (33, 3), ()]
    assert all(bool(torch.isfinite(v).all()) for v in a[:3])


def test_errors_are_as_large_as_they_were(model: LandmarkErrors) -> None:
    """On people the fit has not seen: image errors, compressed depth, visibility, size, people not found."""
    fresh = bodies(60, 3, 2)
    views = fresh.views()
    px, vis, metres, found = (v.flatten(0, 1) for v in sampled(model, fresh))
    real = views.encode(*(getattr(fresh, k).flatten(0, 1) for k in ("points_px", "visibility", "points_m")))
    made = views.encode(px, vis, metres)
    for part in (slice(0, 66), slice(99, 165)):
        ratio = made[:, part].abs().median() / real[:, part].abs().median()
        assert 0.75 < ratio < 1.5
    z = views.points[..., 2].flatten()
    slope = (z * (metres[..., 2] / made[:, -1:].exp()).flatten()).sum() / (z * z).sum()
    assert slope == pytest.approx(0.6, abs=0.12)
    assert made[:, -1].mean() == pytest.approx(0.5, abs=0.05)
    assert float(found.float().mean()) == pytest.approx(0.9, abs=0.08)


def test_errors_of_one_person_stay_alike(model: LandmarkErrors) -> None:
    fresh = bodies(60, 3, 5)
    views = fresh.views()
    px, vis, metres, _ = (v.flatten(0, 1) for v in sampled(model, fresh))
    e = views.encode(px, vis, metres)[:, :66].view(60, 3, 66)
    e = e - e.mean((0, 1))
    together = (e[:, 1:] * e[:, :-1]).mean() / e.square().mean()
    assert 0.4 < together < 0.9


def test_between_pictures_errors_neither_shrink_nor_jump(model: LandmarkErrors) -> None:
    fresh = bodies(80, 3, 6)
    views = fresh.views()
    e = {}
    for step_s in (0.1, 0.03):
        px, vis, metres, _ = (v.flatten(0, 1) for v in sampled(model, fresh, step_s=step_s))
        e[step_s] = views.encode(px, vis, metres)[:, :66].view(80, 3, 66)
    assert e[0.03].std() / e[0.1].std() == pytest.approx(1.0, abs=0.2)
    moved = {k: (v[:, 1:] - v[:, :-1]).square().mean() for k, v in e.items()}
    assert moved[0.03] < 1.2 * moved[0.1]


def test_what_is_out_of_range_stays_finite(model: LandmarkErrors, walkers: Renders) -> None:
    """Feet beside and behind the camera: nothing runs away."""
    near = walkers.landmarks[:8] - walkers.landmarks[:8, :, 23:25].mean(2, keepdim=True) + torch.tensor([0.0, 0.3, 0.6])
    f = model.sample(near, walkers.K[:8], walkers.size_wh[:8], walkers.stature_m[:8], torch.zeros(8, 3),
                     torch.Generator().manual_seed(0))  # fmt: skip
    assert torch.isfinite(f.points_px).all()
    assert torch.isfinite(f.points_m).all()
    assert ((f.visibility >= 0) & (f.visibility <= 1)).all()


def test_nobody_is_no_error(model: LandmarkErrors, walkers: Renders) -> None:
    none = walkers.where(torch.zeros(len(walkers), dtype=torch.bool))
    assert [tuple(v.shape)[:2] for v in sampled(model, none)] == [(0, 3)] * 4


@pytest.mark.parametrize(("name", "bad"), [("K", (3, 3)), ("size_wh", (60,)), ("stature_m", (3,)), ("t_s", (7,))])
def test_shapes_that_do_not_fit_are_refused(model: LandmarkErrors, walkers: Renders, name: str, bad: tuple) -> None:
    given = {"landmarks_camera": walkers.landmarks, "K": walkers.K, "size_wh": walkers.size_wh,
             "stature_m": walkers.stature_m, "t_s": torch.arange(3.0)} | {name: torch.ones(bad)}  # fmt: skip
    with pytest.raises(ValueError, match=f"{name}: expected"):
        model.sample(**given, generator=torch.Generator())


def test_a_file_is_read_back_and_others_refused(
    tmp_path: Path, tensors: dict[str, Tensor], model: LandmarkErrors, walkers: Renders
) -> None:
    file = tmp_path / "errors.safetensors"
    save_file(tensors, file, {"format": f"landmark-errors {FORMAT}"})
    assert file.stat().st_size < 3_000_000
    assert torch.equal(sampled(LandmarkErrors.load(file), walkers)[0], sampled(model, walkers)[0])
    save_file(tensors, file, {"format": "landmark-errors 0"})
    with pytest.raises(ValueError, match="expected format landmark-errors"):
        LandmarkErrors.load(file)
    file.write_bytes(b"no such thing")
    with pytest.raises(ValueError, match="expected a file of"):
        LandmarkErrors.load(file)
    with pytest.raises(FileNotFoundError, match="error_model_fit"):
        LandmarkErrors.load(tmp_path / "none")


def test_every_fifth_shard_is_kept_aside() -> None:
    assert [held_out(Path(f"singles_{k:04d}.npz")) for k in range(6)] == [False] * 4 + [True, False]
    assert not held_out(Path("other.npz"))


def test_a_classifier_tells_apart_only_what_differs() -> None:
    g = torch.Generator().manual_seed(0)
    a, b = torch.randn(400, 5, generator=g), torch.randn(400, 5, generator=g)
    fold = torch.rand(400, generator=g) < 0.5
    given = torch.zeros(400, 1)
    assert told_apart(a, b, given, fold) == pytest.approx(0.5, abs=0.08)
    assert told_apart(a, b + 1.5, given, fold) > 0.9


def test_joint_errors_are_taken_about_hips_and_scale() -> None:
    g = torch.Generator().manual_seed(0)
    true = torch.randn(20, 33, 3, generator=g)
    assert max(float(e.max()) for e in joint_errors(2.0 * true, true)) < 1e-1
    turn = turn_to_z(torch.nn.functional.normalize(torch.tensor([[0.3, 0.2, 1.0]])))[0]
    plain, aligned = joint_errors(true @ turn.T, true)
    assert plain.min() > 50
    assert aligned.max() < 1e-1


def test_tables_are_markdown() -> None:
    assert table("T", "a | b", [["1", "2"]]) == "### T\n\n| a | b |\n| --- | --- |\n| 1 | 2 |\n"


def test_tables_go_below_their_line(tmp_path: Path) -> None:
    file = tmp_path / "doc.md"
    file.write_text(f"above\n{TABLES}\nold")
    put_into(file, "new\n")
    assert file.read_text() == f"above\n{TABLES}\nnew\n"
    file.write_text("other")
    with pytest.raises(ValueError, match="expected the line"):
        put_into(file, "new")
