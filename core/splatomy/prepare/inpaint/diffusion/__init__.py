"""Inpainting by diffusion, on top of propagation and only where it proves better.

``clip``: a small network trained on the clip itself. ``published``: the weights of Diff2DGS that a user
brings along. Both start from the propagated clip, leave visible pixels bit-equal, and are judged in
transplanted holes (``prepare.inpaint.gate``). Needs the extra ``diffusion``.
"""

from splatomy.prepare.inpaint.diffusion._packages import require_diffusion

__all__ = ["require_diffusion"]
