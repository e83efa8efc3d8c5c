"""Why something on the mask page cannot be done now."""

from __future__ import annotations

from typing import TYPE_CHECKING

from splatomy.review import ReviewState
from splatomy_gui.inputs import Kind
from splatomy_gui.panels.masks.inpainting import NO_RUN
from splatomy_gui.panels.masks.side import TOOLS

if TYPE_CHECKING:
    from splatomy_gui.panels.masks.page import MaskPage

_EDITS = ("mask_copy", "mask_invert", "mask_clear", "mask_grow", "mask_shrink")
_AUTOMATIC = (
    "mask_propose",
    "mask_propose_frame",
    "mask_propagate",
    "mask_propagate_back",
    "mask_propagate_both",
    "mask_propagate_all",
    "mask_interpolate",
)
_CARRIED = tuple(name for name in _AUTOMATIC if not name.startswith("mask_propose"))
Reasons = dict[str, str | None]


def reasons(page: MaskPage) -> Reasons:
    """By action: why it cannot be done, None if it can."""
    session, automatic = page.session, page.automatic
    names = (*TOOLS, *_EDITS, *_AUTOMATIC, "mask_confirm", "mask_reject", "mask_swap", "mask_label")
    if session.frames is None or session.case is None:
        every = (*names, "mask_accept", "mask_inpainted", "mask_compare", "mask_unsure")
        return dict.fromkeys(every, "Open an input first.")
    general = None
    if not page.ready:
        general = "The mask tools are still being loaded."
    elif automatic.preview is not None:
        general = "Accept or discard the preview first."
    elif page.inpainting.on:
        general = "Switch off Instruments taken out first."
    found: Reasons = dict.fromkeys(names, general)
    waits = automatic.preview is not None or page.clicks.pending
    found["mask_accept"] = None if waits else "There is no preview."
    found["mask_inpainted"] = None if page.inpainting.folder is not None else NO_RUN
    found["mask_compare"] = found["mask_unsure"] = None
    for name in ("mask_confirm", "mask_reject"):
        found[name] = None if automatic.preview is None else "Accept or discard the preview first."
    if page.clicks.pending:
        for name in (*_EDITS, *_AUTOMATIC, "mask_reject"):
            found[name] = found[name] or "Accept or discard the clicked object first."
    for name, reason in _special(page).items():
        found[name] = found[name] or reason
    if automatic.busy:
        for name in _AUTOMATIC:
            found[name] = found[name] or "Masks are being made: wait, or press Esc."
    return found


def _special(page: MaskPage) -> Reasons:
    """Reasons of single actions."""
    session = page.session
    frame, frames = session.clock.frame, session.review.frames
    last = len(frames) - 1
    before, after = page.automatic.anchors()
    by_a_person = sum(f.state.by_a_person for f in frames)
    here = frames[frame].state
    found: Reasons = {
        "mask_copy": "There is no frame before this one." if frame == 0 else None,
        "mask_reject": "This frame has no mask to drop." if here is ReviewState.UNTOUCHED else None,
    }
    if session.kind is not Kind.ENDOSCOPY:
        text = "Instruments are found by their colour, which a DSA run does not have: draw and propagate."
        if session.kind is Kind.SURFACE:
            text = "Views of a still scene follow from no other view: draw the mask of each."
        found["mask_propose"] = found["mask_propose_frame"] = text
    elif here.by_a_person:
        found["mask_propose_frame"] = "A person worked on this frame: reject its mask first."
    if by_a_person == len(frames):
        found["mask_propose"] = "A person worked on every frame."
    ahead = None
    if frame == last:
        ahead = "This is the last frame."
    elif after == frame + 1:
        ahead = "A person worked on the next frame already."
    behind = None
    if frame == 0:
        behind = "This is the first frame."
    elif before == frame - 1:
        behind = "A person worked on the frame before already."
    found["mask_propagate"], found["mask_propagate_back"] = ahead, behind
    found["mask_propagate_both"] = ahead if ahead is not None and behind is not None else None
    if by_a_person == 0:
        found["mask_propagate_all"] = "Draw or confirm the mask of a frame first."
    elif by_a_person == len(frames):
        found["mask_propagate_all"] = "A person worked on every frame."
    if session.kind is Kind.SURFACE:
        for name in (*_CARRIED, "mask_copy"):
            found[name] = "Another view sees the scene from elsewhere: draw the mask of each."
        return found
    first = frame if here.by_a_person else before
    if first is None or after is None:
        found["mask_interpolate"] = "Confirm a frame before this one and one after it first."
    elif after == first + 1:
        found["mask_interpolate"] = "There is no frame between the two confirmed ones."
    return found
