"""Deformations: identity at the start, exact formulas, no jumps; seconds are only normalised inside."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from splatomy.fields.attenuation import TimeBasis
from splatomy.gaussians.deform import CurveDeformation, NodeDeformation, multiply, quats_from_vectors
from splatomy.geometry.rigid import rotation_from_quat, rotation_from_vector

CPU = torch.device("cpu")


def surfels(count: int = 40) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(1)
    quats = torch.nn.functional.normalize(torch.randn(count, 4, generator=g), dim=1)
    return 30 * torch.rand(count, 3, generator=g), quats, torch.randn(count, 2, generator=g)


def lattice() -> torch.Tensor:
    x, y = torch.meshgrid(torch.arange(0, 31, 5.0), torch.arange(0, 31, 5.0), indexing="ij")
    return torch.stack([x.ravel(), y.ravel(), torch.full((x.numel(),), 15.0)], 1)


def nodes(start_s: float = 0.0, end_s: float = 3.0, size: int = 9) -> NodeDeformation:
    return NodeDeformation(lattice(), TimeBasis(start_s, end_s, size), 0.3)


@pytest.mark.parametrize("time_s", [-1.0, 0.0, 1.234, 3.0, 9.0])
def test_both_start_as_the_identity(time_s: float) -> None:
    means, quats, scales = surfels()
    field = nodes()
    curves = CurveDeformation(0.0, 3.0, 17, 0.01, 0.3, CPU)
    for moved in (
        field.moved(means, quats, scales, *field.bind(means), time_s),
        curves.moved(means, quats, scales, curves.start(len(means)), time_s),
    ):
        assert torch.equal(moved.means_mm, means) and torch.equal(moved.log_scales, scales)
        assert torch.allclose(moved.quats_wxyz, quats, atol=1e-6)
        assert moved.gain is None or torch.equal(moved.gain, torch.ones(len(means), 1))


def test_gradients_at_the_identity_are_finite_and_not_zero() -> None:
    means, quats, scales = surfels()
    field = nodes()
    moved = field.moved(means, quats, scales, *field.bind(means), 1.0)
    assert moved.gain is not None
    rotated = (moved.quats_wxyz * torch.tensor([0.3, 1.0, -2.0, 0.5])).sum()
    (moved.means_mm.sum() + rotated + moved.log_scales.sum() + moved.gain.sum()).backward()
    gradient = field.coefficients.grad
    assert gradient is not None and torch.isfinite(gradient).all()
    assert (gradient.abs().sum((0, 1)) > 0).all()


def test_the_papers_formula() -> None:
    field = CurveDeformation(1.0, 5.0, 3, 0.2, 2.0, CPU)
    curves = field.start(1)
    curves[0, 0, 0] = torch.tensor([0.5, -1.0, 2.0])
    share = (2.2 - 1.0) / 4.0
    e = (share - np.array([0, 0.5, 1.0])) ** 2 / (0.2**2 + 1e-4)
    wanted = 2.0 * float((np.array([0.5, -1.0, 2.0]) * np.exp(-(e**2))).sum())
    change = field.changes(curves, 2.2)
    assert float(change[0, 0]) == pytest.approx(wanted, rel=1e-5)
    assert not change[0, 1:].any()


def test_started_curves_follow_a_smooth_path() -> None:
    field = CurveDeformation(0.0, 3.0, 17, 0.1, 0.3, CPU)
    times = np.linspace(0, 3, 33)
    path = np.stack([np.sin(2 * times), 0 * times, times**2], -1)[None]
    curves = field.started_from(field.start(1), times, path)
    found = np.stack([field.changes(curves, float(t))[0, :3].numpy() for t in times])
    assert np.abs(found - path[0]).max() < 0.1 * np.abs(path).max()


def test_started_nodes_follow_a_smooth_path_and_ignore_what_was_not_seen() -> None:
    field = nodes(size=12)
    times = np.linspace(0, 3, 31)
    path = np.stack([np.sin(2 * times), np.cos(times) - 1, 0.5 * times], -1)
    all_paths = np.repeat(path[None], len(field.nodes_mm), 0)
    weight = np.ones(all_paths.shape[:2])
    all_paths[:, 10], weight[:, 10] = 50.0, 0.0
    field.start_from(times, all_paths, weight, 1e-4)
    index, share = field.bind(torch.tensor([[12.0, 13.0, 15.0]]))
    found = np.stack([field.changes(index, share, float(t))[0, :3].detach().numpy() for t in times])
    assert np.abs(found - path).max() < 0.02


def test_shares_sum_to_one_and_have_no_jumps() -> None:
    field = nodes()
    with torch.no_grad():
        field.coefficients.normal_(generator=torch.Generator().manual_seed(0))
    line = torch.stack([torch.linspace(1, 29, 4000), torch.full((4000,), 11.3), torch.full((4000,), 15.0)], 1)
    index, share = field.bind(line)
    assert torch.allclose(share.sum(1), torch.ones(len(line)), atol=1e-6) and (share >= 0).all()
    change = field.changes(index, share, 1.0).detach()
    # A step of 7 um cannot change more than a small share of the whole variation.
    assert float(change.diff(dim=0).abs().amax()) < 0.02 * float(change.amax() - change.amin())


def test_resting_places_are_the_inverse_of_the_motion() -> None:
    field = nodes()
    times = np.linspace(0, 3, 13)
    place = field.nodes_mm.numpy()
    bump = 3 * np.exp(-((place[:, :2] - 15) ** 2).sum(1) / 200)
    path = bump[:, None, None] * np.sin(times)[None, :, None] * np.array([0.6, -0.3, 0.7])
    field.start_from(times, path, np.ones(path.shape[:2]), 1e-4)
    means, quats, scales = surfels()
    means[:, 2] = 15
    with torch.no_grad():
        moved = field.moved(means, quats, scales, *field.bind(means), 1.5).means_mm
    assert float((moved - means).norm(dim=1).amax()) > 1.5
    assert float((field.canonical(moved, 1.5, rounds=12) - means).norm(dim=1).amax()) < 0.02


def test_the_unit_of_time_does_not_matter() -> None:
    """A clip played a thousand times slower moves the same way at the same share of its length."""
    means, quats, scales = surfels()
    slow, fast = nodes(0, 3000), nodes(0, 3)
    with torch.no_grad():
        fast.coefficients.normal_(generator=torch.Generator().manual_seed(0))
        slow.coefficients.copy_(fast.coefficients)
    a = fast.moved(means, quats, scales, *fast.bind(means), 1.3)
    b = slow.moved(means, quats, scales, *slow.bind(means), 1300.0)
    assert torch.allclose(a.means_mm, b.means_mm, atol=1e-4)


def test_new_nodes_go_where_none_are_near_and_move_alike() -> None:
    field = nodes()
    with torch.no_grad():
        field.coefficients[..., :3] = 1.0
    near, far = torch.tensor([[10.0, 10.0, 15.0]]), torch.tensor([[60.0, 10.0, 15.0], [61.0, 10.0, 15.0]])
    before = len(field.nodes_mm)
    assert field.add_nodes(near, 5.0) == 0
    assert field.add_nodes(far, 5.0) == 1 and len(field.nodes_mm) == before + 1
    assert field.coefficients.requires_grad and field.coefficients.is_leaf
    change = field.changes(*field.bind(far), 1.0)[:, :3]
    assert torch.allclose(change, torch.full_like(change, 0.3), atol=1e-5)


def test_rigid_motion_costs_nothing() -> None:
    field = nodes()
    with torch.no_grad():
        field.coefficients[:] = 0.7
    assert field.rigidity().item() < 1e-10 and field.roughness().item() < 1e-10
    with torch.no_grad():
        field.coefficients[10] += 1
    assert field.rigidity().item() > 1e-4


def test_quaternions_agree_with_matrices() -> None:
    g = torch.Generator().manual_seed(3)
    vectors = torch.randn(20, 3, generator=g)
    quats = quats_from_vectors(vectors)
    assert np.allclose(rotation_from_quat(quats.numpy()), rotation_from_vector(vectors.numpy()), atol=1e-5)
    other = torch.nn.functional.normalize(torch.randn(20, 4, generator=g), dim=1)
    product = rotation_from_quat(multiply(quats, other).numpy())
    wanted = rotation_from_quat(quats.numpy()) @ rotation_from_quat(other.numpy())
    assert np.allclose(product, wanted, atol=1e-5)
