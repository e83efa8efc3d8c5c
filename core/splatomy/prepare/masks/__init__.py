"""Masks of instruments: proposed, carried between confirmed frames, edited and reviewed."""

from splatomy.prepare.masks.edit import (
    Edit,
    Patch,
    copy_from,
    erase,
    fill,
    grow,
    interpolate,
    invert,
    paint,
    polygon,
    shrink,
)
from splatomy.prepare.masks.propagate import Propagation, PropagationConfig, propagate, signed_distance
from splatomy.prepare.masks.propose import Proposal, ProposalConfig, propose
from splatomy.prepare.masks.review import FrameEdit, edited
from splatomy.prepare.masks.warnings import MaskWarning, mask_warnings

__all__ = [
    "Edit",
    "FrameEdit",
    "MaskWarning",
    "Patch",
    "Propagation",
    "PropagationConfig",
    "Proposal",
    "ProposalConfig",
    "copy_from",
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
    "shrink",
    "signed_distance",
]
