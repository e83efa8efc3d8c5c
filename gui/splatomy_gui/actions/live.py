"""Actions of the live page: big keys, since hands are busy."""

from splatomy_gui.actions.registry import ActionSpec

_S = "live"

LIVE = (
    ActionSpec("live_mask", "Mask", "Draw around an instrument or gauze: what is inside is not tissue", ("B",), _S, "Live", "lasso", True),
    ActionSpec("live_unmask", "Unmask", "Draw around tissue that is masked by mistake", ("E",), _S, "Live", "eraser", True),
    ActionSpec("live_keep", "Keep", "Draw around a place that matters: it is reconstructed with more care", ("K",), _S, "Live", "bookmark", True),
    ActionSpec("live_ignore", "Ignore", "Draw around a place to leave alone: nothing is learnt there", ("I",), _S, "Live", "hidden", True),
    ActionSpec("live_mark", "Mark", "Click a place; the mark follows the tissue", ("M",), _S, "Live", "point", True),
    ActionSpec("live_scale", "Scale", "Click two places of known distance; lengths are millimetres from then on", ("S",), _S, "Live", "ruler", True),
    ActionSpec("live_freeze", "Freeze", "Hold the surface as it is; the video goes on", ("F",), _S, "Live", "pause", True),
    ActionSpec("live_rewind", "Rewind", "Take the surface back to how it was that long ago", ("Shift+R",), _S, "Live", "previous"),
    ActionSpec("live_snapshot", "Snapshot", "Keep pictures of video and surface, and the newest surface itself", ("P",), _S, "Live", "camera"),
    ActionSpec("live_follow", "Follow", "Look at the surface from where the scope is", ("R",), _S, "Live", "endoscopy", True),
    ActionSpec("live_cancel", "Put the tool away", "Drop the line, or put the tool away", ("Esc",), _S, "Live", "close"),
)  # fmt: skip
