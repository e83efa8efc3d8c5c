"""What says whether a surface is right beyond its own pixel: other pictures of the same place, and CLIP."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from splatomy.background import beside
from splatomy.capture import Capture
from splatomy.events import Notice, Task
from splatomy.fields.sdf import value_and_gradient
from splatomy.methods.completed_object.config import Config
from splatomy.methods.completed_object.fields import CascadedSdf, ColourField
from splatomy.methods.completed_object.rendering import place_samples, trace
from splatomy.methods.completed_object.views import Rays, Views
from splatomy.prepare.clip import Clip
from splatomy.weights.still import find_still_weights

_SAME_SURFACE = 0.04
_LARGEST = 0.2
"""Colour differences beyond this are highlights or something else: they pull no further."""
_SIDE_PX = 48
_SAMPLES = 24
_TURN = 0.5
"""Standard deviation (radians) of a new view's turn from that of a camera."""
_FEW_LIT = 200
_RATE = 0.02


def photometric_loss(surface: Tensor, solid: Tensor, rays: Rays, views: Views, other: int) -> Tensor:
    """Mean colour difference of surface points (R, 3) in their own picture and in the view ``other``.

    Points that ``other`` does not show (something stands before them, or measured depth differs) are left
    out, and so are pixels that were invented: they agree by construction.
    """
    pose, k = views.poses[other], views.intrinsics[other]
    place = surface @ pose[:3, :3].T + pose[:3, 3]
    z = place[:, 2].clamp_min(1e-3)
    pixel = (place @ k.T)[:, :2] / z[:, None]
    height, width = views.images.shape[1:3]
    size = pixel.new_tensor([width - 1, height - 1])
    nearest = pixel.detach().round().long()
    inside = ((nearest >= 0) & (nearest <= size)).all(1)
    column, row = nearest.clamp_min(0).minimum(size.long()).unbind(1)
    measured = views.depth[other][row, column]
    shows = inside & views.sound[other][row, column]
    shows &= (measured <= 0) | ((measured - z.detach()).abs() < _SAME_SURFACE)
    grid = (2 * pixel / size - 1)[None, None]
    picture = views.images[other].permute(2, 0, 1)[None]
    seen = torch.nn.functional.grid_sample(picture, grid, align_corners=True, padding_mode="border")
    gap = (seen[0, :, 0].T - rays.colour).abs().mean(1).clamp_max(_LARGEST)
    weight = shows * (rays.weight == 1) * (rays.view != other) * (solid > 0)
    return (gap * weight).sum() / weight.sum().clamp_min(1)


@dataclass(frozen=True)
class Critic:
    """CLIP's opinion of views that no camera took.

    reference: unit features (1, F) of the view that shows the object best, its colours and its normals.
    word: unit features of the object's name, or None. centres, ups: (T, 3) of the cameras in the sphere.
    """

    clip: Clip
    references: tuple[Tensor, Tensor | None]
    word: Tensor | None
    centres: Tensor

    @staticmethod
    def of(capture: Capture, views: Views, config: Config, device: torch.device) -> Task[Critic | None]:
        """The critic when CLIP's weights were given; else None, and a notice of what stands in for it."""
        weights = find_still_weights(capture.details.get("weights"))
        if weights.clip is None or config.semantic_weight == 0:
            if config.photometric_weight:
                yield Notice(
                    "info", "semantic-consistency",
                    "No CLIP weights were given: new views are not judged by meaning; surface points are "
                    "compared between the pictures instead.",
                )  # fmt: skip
            return None
        clip = yield from beside("load weights", 0, 1, partial(Clip, weights.clip, device))
        word = capture.details.get("object_name")
        # The view that shows most of the object stands for the rank by CLIP when nobody named the object.
        best = int(np.argmax(views.real.sum((1, 2))))
        text = None
        if word:
            text = clip.of_text(str(word))
            with torch.no_grad():
                score = [
                    float((clip.of_pictures(_cut_out(views, t)) * text).sum()) for t in range(len(views))
                ]
            best = int(np.argmax(np.where(views.real.any((1, 2)), score, -2.0)))
        with torch.no_grad():
            colour = clip.of_pictures(_cut_out(views, best))
        centres = -(views.poses[:, :3, :3].transpose(1, 2) @ views.poses[:, :3, 3:])[..., 0]
        yield Notice(
            "info", "semantic-consistency", "New views are judged by CLIP against the views' own looks."
        )
        normals = None if views.normals is None else clip.of_pictures(_normal_picture(views, best))
        return Critic(clip, (colour, normals), text, centres)

    def loss(
        self, field: CascadedSdf, colours: ColourField, grid: Tensor, sharpness: float, rng: torch.Generator
    ) -> Tensor:
        """Unlikeness (0 to 8) of one new view and the reference, and of it and the name.

        Source: O2-Recon, semantic consistency: (1 - cosine) of colours and of normals, each with the
        reference picture and with the text.
        """
        origins, directions = self._new_rays(rng)
        draws = torch.rand((len(origins), _SAMPLES), generator=rng).to(origins.device)
        measured = torch.zeros(len(origins), device=origins.device)
        distances = place_samples(origins, directions, measured, grid, _SAMPLES, sharpness, 0.1, draws)
        traced = trace(field, colours, origins, directions, distances, sharpness)
        if int((traced.opacity.detach() > 0.5).sum()) < _FEW_LIT:
            return traced.opacity.sum() * 0.0
        feature = self.clip.of_pictures(_as_picture(traced.colour))
        loss = 1 - (feature * self.references[0]).sum()
        if self.word is not None:
            loss = loss + 1 - (feature * self.word).sum()
        surface = origins + traced.reach[:, None] * directions
        _, slope = value_and_gradient(field, surface, _RATE)
        shown = 0.5 * (torch.nn.functional.normalize(slope, dim=1) + 1) * traced.opacity[:, None]
        feature = self.clip.of_pictures(_as_picture(shown))
        if self.references[1] is not None:
            loss = loss + 1 - (feature * self.references[1]).sum()
        if self.word is not None:
            loss = loss + 1 - (feature * self.word).sum()
        return loss

    def _new_rays(self, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """Rays (S^2, 3) of a square view at the sphere, turned from that of one of the cameras."""
        start = self.centres[int(torch.randint(len(self.centres), (1,), generator=rng))]
        turned = start / start.norm() + _TURN * torch.randn(3, generator=rng).to(start)
        away = torch.nn.functional.normalize(turned, dim=0)
        distance = 2.5
        origin = away * distance
        helper = (
            start.new_tensor([0.0, 0.0, 1.0]) if abs(float(away[2])) < 0.9 else start.new_tensor([1.0, 0, 0])
        )
        right = torch.nn.functional.normalize(torch.linalg.cross(helper, away), dim=0)
        up = torch.linalg.cross(away, right)
        line = torch.linspace(-1, 1, _SIDE_PX, device=start.device) / distance
        y, x = torch.meshgrid(-line, line, indexing="ij")
        rays = -away + x.reshape(-1, 1) * right + y.reshape(-1, 1) * up
        return origin.expand(len(rays), 3), torch.nn.functional.normalize(rays, dim=1)


def _as_picture(values: Tensor) -> Tensor:
    """(1, 3, S, S) of the pixels (S^2, 3) of a new view."""
    return values.reshape(1, _SIDE_PX, _SIDE_PX, 3).permute(0, 3, 1, 2)


def _cut_out(views: Views, t: int) -> Tensor:
    """(1, 3, S, S) the object of a view before black, as a square about it."""
    return _squared(views, t, views.images[t] * views.member[t][..., None])


def _normal_picture(views: Views, t: int) -> Tensor:
    """(1, 3, S, S) the given normals of a view, in the world's axes, as colours."""
    if views.normals is None:
        raise ValueError("no normals were given")
    world = views.normals[t] @ views.poses[t, :3, :3]
    return _squared(views, t, 0.5 * (world + 1) * views.member[t][..., None])


def _squared(views: Views, t: int, picture: Tensor) -> Tensor:
    rows, columns = torch.nonzero(views.member[t] > 0.5, as_tuple=True)
    if not len(rows):
        return picture.permute(2, 0, 1)[None]
    side = int(max(rows.max() - rows.min(), columns.max() - columns.min())) + 1
    out = picture.new_zeros((side, side, 3))
    part = picture[int(rows.min()) : int(rows.max()) + 1, int(columns.min()) : int(columns.max()) + 1]
    top, left = (side - part.shape[0]) // 2, (side - part.shape[1]) // 2
    out[top : top + part.shape[0], left : left + part.shape[1]] = part
    return out.permute(2, 0, 1)[None]
