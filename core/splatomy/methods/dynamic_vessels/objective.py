"""The loss of one rendered view."""

from __future__ import annotations

from torch import Tensor

from splatomy.fields.attenuation import CurveField, GridField
from splatomy.gaussians.losses import dssim, robust_loss
from splatomy.gaussians.store import GaussianStore
from splatomy.methods.dynamic_vessels.config import Config
from splatomy.methods.dynamic_vessels.kinship import strangeness
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
    residual = (image - view.image) * view.weight
    loss = image.new_zeros(())
    if config.robust_weight:
        loss = loss + config.robust_weight * robust_loss(residual, view.noise_std, config.robust_knee)
    if config.l1_weight:
        loss = loss + config.l1_weight * residual.abs().mean()
    if config.dssim_weight:
        loss = loss + config.dssim_weight * dssim(image * view.weight, view.image * view.weight)
    if config.sparsity:
        # The image's own mean is the total attenuation, in units of the noise like the data term.
        loss = loss + config.sparsity * (image / view.noise_std).mean()
    if config.roughness and isinstance(field, CurveField):
        loss = loss + config.roughness * field.roughness(store["curve"])
    if config.kinship and others is not None:
        loss = loss + config.kinship * strangeness(store["curve"], others)
    return loss
