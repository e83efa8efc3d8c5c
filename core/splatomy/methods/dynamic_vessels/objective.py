"""The loss of one rendered view."""

from __future__ import annotations

from torch import Tensor

from splatomy.fields.attenuation import CurveField, GridField
from splatomy.gaussians.losses import dssim, robust_loss
from splatomy.gaussians.store import GaussianStore
from splatomy.kernels import _gpu_objective
from splatomy.methods.dynamic_vessels.config import Config
from splatomy.methods.dynamic_vessels.kinship import SAME, strangeness
from splatomy.methods.dynamic_vessels.views import View


def view_loss(
    image: Tensor,
    view: View,
    store: GaussianStore,
    field: CurveField | GridField,
    config: Config,
    others: Tensor | None,
) -> Tensor:
    """Residuals of a rendered image (H, W), its total attenuation, and the regularity of the curves.

    others: (N,), the Gaussian whose curve each one is compared with.
    """
    loss = pixel_loss(image, view, config)
    if isinstance(field, CurveField):
        loss = loss + curve_loss(store["curve"], field, config, others)
    return loss


def pixel_loss(image: Tensor, view: View, config: Config) -> Tensor:
    """The part that depends on the picture alone."""
    loss = image.new_zeros(())
    if (config.robust_weight or config.sparsity) and _gpu_objective.fits(image):
        given = (image, view.image, view.noise_std, view.weight)
        weights = (config.robust_knee, config.robust_weight, config.sparsity)
        loss = _gpu_objective.PixelLoss.apply(*given, *weights)
    else:
        if config.robust_weight:
            residual = (image - view.image) * view.weight
            loss = loss + config.robust_weight * robust_loss(residual, view.noise_std, config.robust_knee)
        if config.sparsity:
            # The image's own mean is the total attenuation, in units of the noise like the data term.
            loss = loss + config.sparsity * (image / view.noise_std).mean()
    if config.l1_weight:
        loss = loss + config.l1_weight * ((image - view.image) * view.weight).abs().mean()
    if config.dssim_weight:
        loss = loss + config.dssim_weight * dssim(image * view.weight, view.image * view.weight)
    return loss


def curve_loss(curve: Tensor, field: CurveField, config: Config, others: Tensor | None) -> Tensor:
    """The part that depends on the curves (N, K) alone."""
    if _gpu_objective.fits(curve):
        kinship = config.kinship if others is not None else 0.0
        loss: Tensor = _gpu_objective.CurveLoss.apply(curve, others, config.roughness, kinship, SAME)
        return loss
    loss = curve.new_zeros(())
    if config.roughness:
        loss = loss + config.roughness * field.roughness(curve)
    if config.kinship and others is not None:
        loss = loss + config.kinship * strangeness(curve, others)
    return loss
