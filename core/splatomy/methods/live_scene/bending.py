"""The deformation of one frame: control nodes that bring the map onto what the frame shows."""

from __future__ import annotations

import torch
from torch import Tensor

from splatomy.geometry.rigid import rigid, rotation_from_vector
from splatomy.methods.live_scene.aligning import FEWEST_PIXELS, Points, Target, pulls_of
from splatomy.methods.live_scene.config import Config
from splatomy.methods.live_scene.frames import Float, Level
from splatomy.methods.live_scene.mapping import SurfelMap
from splatomy.methods.live_scene.motion import NodeMotion
from splatomy.methods.live_scene.tracking import points_of

_MOST_POINTS, _MOST_NODES = 2_500, 250
_ALIKE = 0.1
"""Errors of the map are alike over whole regions: so much of a pixel's information is its own."""
_REACH = 0.04
_UNLIKE = 0.008
"""Usual distances of a node from its rest, and from the blend of its neighbours, in median depths."""
_HELD = 0.8
"""What a node that nothing shows keeps of its change from frame to frame."""


@torch.no_grad()
def fit_nodes(
    surfels: SurfelMap, motion: NodeMotion, level: Level, pose: Float, is_known: bool, config: Config
) -> tuple[Tensor, Float] | None:
    """Moves the nodes to where the map explains the frame; None where it shows too little.

    Which of them (M,) it shows, and the pose (4, 4): what all of these do together becomes its own, unless
    it ``is_known``.

    Gauss-Newton on texture and point-to-plane depth, as the camera is found, with every point carried by its
    nodes; nodes are held to their rest and to their neighbours. Since nothing but the rest holds them, they
    come back to it: nodes that go on from the last frame wander off, and take the camera with them.

    Source: embedded deformation (Sumner et al. 2007) with the energy of the sheet online-incremental, 7; the
    camera is found before and held.
    """
    if not len(motion.nodes_mm):
        return None
    view = surfels.view(pose, level, motion)
    points = points_of(view, level, 1, _MOST_POINTS)
    if len(points.points) < FEWEST_PIXELS:
        return None
    device = motion.device
    turn = torch.as_tensor(pose[:3, :3], dtype=torch.float32, device=device)
    shift = torch.as_tensor(pose[:3, 3], dtype=torch.float32, device=device)
    world = (points.points - shift) @ turn
    nodes, shares = motion.bind(motion.at_rest(world, 1))
    active, local, shares = _chosen(nodes, shares)
    target = Target.of(level)
    held = _held(motion, active, surfels.pixel_mm * float(level.intrinsics[0, 0]) * level.factor, config)
    was = motion.changes[active, :3] * motion.unit_mm
    now = was
    for _ in range(config.node_steps):
        carried = ((now - was)[local] * shares[..., None]).sum(1)
        moved = Points(points.points + carried @ turn.T, points.normals, points.grey, points.texture)
        matrix, right = pulls_of(moved, target, config)
        now = now + _step(turn.T @ matrix @ turn, right @ turn, local, shares, now, held)
    if not bool(torch.isfinite(now).all()):
        return None
    if not is_known:
        weight = torch.zeros(len(active), device=device).index_add_(0, local.flatten(), shares.flatten())
        common, now = _parted(motion.nodes_mm[active], now, weight, motion.spacing_mm)
        pose = pose @ common
    motion.changes = motion.changes * _HELD
    motion.changes[active, :3] = now / motion.unit_mm
    motion.turn_with_neighbours()
    shown = torch.zeros(len(motion.nodes_mm), dtype=torch.bool, device=device)
    return shown.index_fill_(0, active, True), pose


def _chosen(nodes: Tensor, shares: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The nodes (A,) that carry most of the points, and the numbers of each point's among them with shares.

    nodes: of each point, (P, 4), with shares (P, 4). What a step costs grows with the cube of A.
    """
    active, local = torch.unique(nodes, return_inverse=True)
    if len(active) <= _MOST_NODES:
        return active, local, shares
    weight = torch.zeros(len(active), device=nodes.device).index_add_(0, local.flatten(), shares.flatten())
    kept = weight.topk(_MOST_NODES).indices.sort().values
    number = torch.full((len(active),), -1, dtype=torch.long, device=nodes.device)
    number[kept] = torch.arange(_MOST_NODES, device=nodes.device)
    local = number[local]
    return active[kept], local.clamp_min(0), torch.where(local >= 0, shares, 0.0)


def _parted(nodes_mm: Tensor, shifts_mm: Tensor, weight: Tensor, spacing_mm: float) -> tuple[Float, Tensor]:
    """The rigid motion (4, 4) that shifts (A, 3) of nodes share, and what they do besides it, (A, 3)."""
    share = (weight / weight.sum())[:, None]
    middle = (share * nodes_mm).sum(0)
    shift = (share * shifts_mm).sum(0)
    arm, left = nodes_mm - middle, shifts_mm - shift
    eye = torch.eye(3, device=nodes_mm.device)
    # Nodes on a line turn about it as they like.
    square = ((share * arm.square()).sum() + 1e-3 * spacing_mm**2) * eye - (share * arm).T @ arm
    turn = torch.linalg.solve(square, (share * torch.linalg.cross(arm, left)).sum(0))
    besides = left - torch.linalg.cross(turn.expand_as(arm), arm)
    turned = rotation_from_vector(turn.double().cpu().numpy())
    centre, step = middle.double().cpu().numpy(), shift.double().cpu().numpy()
    return rigid(turned, centre + step - turned @ centre), besides


def _held(motion: NodeMotion, active: Tensor, typical_mm: float, config: Config) -> Tensor:
    """What holds active nodes (A,) to their rest and neighbours: a matrix (A, A) for each axis alike."""
    unlike = motion.unlikeness(active)
    bound = config.rigidity / (_UNLIKE * typical_mm) ** 2 * (unlike.T @ unlike)
    return bound + torch.eye(len(active), device=motion.device) / (_REACH * typical_mm) ** 2


def _step(matrix: Tensor, right: Tensor, nodes: Tensor, shares: Tensor, now: Tensor, held: Tensor) -> Tensor:
    """The step (A, 3) of nodes: matrices (P, 3, 3), right sides (P, 3) of points on their nodes (P, 4)."""
    count = len(now)
    both = shares[:, :, None] * shares[:, None, :]
    pair = (nodes[:, :, None] * count + nodes[:, None, :]).flatten()
    blocks = torch.zeros(count * count, 9, device=now.device)
    blocks.index_add_(0, pair, (both.flatten(1)[..., None] * matrix.flatten(1)[:, None]).reshape(-1, 9))
    side = torch.zeros(count, 3, device=now.device)
    side.index_add_(0, nodes.flatten(), (shares[..., None] * right[:, None]).reshape(-1, 3))
    whole = _ALIKE * blocks.view(count, count, 3, 3)
    whole = whole + held[..., None, None] * torch.eye(3, device=now.device)
    side = _ALIKE * side - held @ now
    whole = whole.permute(0, 2, 1, 3).reshape(3 * count, 3 * count)
    return torch.linalg.solve(whole, side.flatten()).view(count, 3)
