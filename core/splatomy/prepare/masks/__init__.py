"""Masks of instruments: proposed, carried between confirmed frames, edited and reviewed."""

from splatomy.prepare.masks.clicks import clicked_object
from splatomy.prepare.masks.edit import (
    Edit,
    Patch,
    copy_from,
    cover,
    erase,
    fill,
    grow,
    interpolate,
    invert,
    paint,
    polygon,
    shrink,
    touch,
)
from splatomy.prepare.masks.propagate import Propagation, PropagationConfig, propagate, signed_distance
from splatomy.prepare.masks.propose import Proposal, ProposalConfig, propose
from splatomy.prepare.masks.review import FrameEdit, Label, edited
from splatomy.prepare.masks.warnings import MaskWarning, mask_warnings, share_warnings

__all__ = [
    "Edit",
    "FrameEdit",
    "Label",
    "MaskWarning",
    "Patch",
    "Propagation",
    "PropagationConfig",
    "Proposal",
    "ProposalConfig",
    "clicked_object",
    "copy_from",
    "cover",
    "edited",
    "erase",
    "fill",
    "grow",
    "interpolate",
    "invert",
    "mask_warnings",
    "paint",
    "polygon",
    "propagate",
    "propose",
    "share_warnings",
    "shrink",
    "signed_distance",
    "touch",
]
