"""Truth from several views: exact where views agree, one wrong view outvoted, and said where nothing is known."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from benchmarks.triangulate import main, triangulated
from benchmarks.truth import read_clip
from pipeline.frames import exp_so3

DEMO = Path(__file__).parents[1] / "benchmarks" / "clips" / "demo_one"


def views(points, n=4):
    """Cameras (V, 3, 4) around points (T, N, 3), and the rays (V, T, N, 2) they see them by."""
    cameras = np.stack([np.column_stack([exp_so3([0.0, 2 * np.pi * k / n, 0.0]), [0.0, 0.0, 4.0]]) for k in range(n)])
    there = np.einsum("vij,tnj->vtni", cameras[..., :3], points) + cameras[:, None, None, :, 3]
    return cameras, there[..., :2] / there[..., 2:]


@pytest.fixture
def scene():
    points = np.random.default_rng(1).uniform(-1.0, 1.0, (20, 12, 3))
    return points, *views(points)


FOCALS = np.full(4, 1000.0)


def test_rays_meet_where_the_points_are(scene):
    points, cameras, rays = scene
    found, known = triangulated(rays, np.ones(rays.shape[:-1]), cameras, FOCALS)
    assert known.all()
    assert np.allclose(found, points, atol=1e-6)


def test_a_view_that_errs_is_outvoted(scene):
    points, cameras, rays = scene
    rays[1, :, 3] += 0.15
    found, known = triangulated(rays, np.ones(rays.shape[:-1]), cameras, FOCALS)
    assert known.all()
    assert np.linalg.norm(found - points, axis=-1).max() < 0.01


def test_what_too_few_see_is_not_known(scene):
    _, cameras, rays = scene
    rays[:2, 5] = np.nan
    _, known = triangulated(rays, np.ones(rays.shape[:-1]), cameras, FOCALS)
    assert not known[5].any()
    assert known[np.arange(20) != 5].all()


def test_clips_without_a_place_and_too_few_clips_are_told(tmp_path, capsys):
    assert main([str(DEMO), "--out", str(tmp_path)]) == 2
    assert "3 or more clips" in capsys.readouterr().err
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "camera.json").write_text('{"image_size": [10, 10], "K": [[1, 0, 1], [0, 1, 1], [0, 0, 1]]}')
    assert main([str(bare)] * 3 + ["--out", str(tmp_path)]) == 2
    assert "R_world_to_cam" in capsys.readouterr().err


def test_folders_are_clips_with_joints(tmp_path):
    """The same view three times: rays meet everywhere along themselves, but the folders are what is read back."""
    short = tmp_path / "short"
    shutil.copytree(DEMO, short)
    assert main([str(short), str(short), str(short), "--out", str(tmp_path / "out")]) == 0
    clip = read_clip(tmp_path / "out" / "short")
    assert len(clip.people) == 1
    assert clip.people[0].joints_camera_m.shape[1:] == (12, 3)
