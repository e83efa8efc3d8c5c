"""A session's checkpoint, and going on from it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from splatomy.events import Checkpoint

if TYPE_CHECKING:
    from splatomy.engine.live.session import LiveSession


def checkpoint_of(session: LiveSession) -> Checkpoint:
    """Everything needed to go on with another stream, or the rest of this one."""
    arrays, values = session.online.state()
    arrays |= {f"path.{name}": array for name, array in session.path.state().items()}
    return Checkpoint(
        arrays,
        {
            "step": session.counts["frames"],
            "online": values,
            "frame": session.last_index,
            "generation": session.desk.generation,
            "counts": dict(session.counts),
            "recorded": session.recorder.values(),
            "breath_period_s": session.breath.period_s,
        },
    )


def go_on(session: LiveSession, checkpoint: Checkpoint) -> None:
    """Takes over from a checkpoint; a recording goes on behind its frame, a live source where it is."""
    values, online = checkpoint.values, session.online
    online.restore(checkpoint.arrays, values["online"])
    path = {n.removeprefix("path."): a for n, a in checkpoint.arrays.items() if n.startswith("path.")}
    session.path.restore(path, online.part)
    session.desk.generation = int(values["generation"])
    session.counts = {**session.counts, **values["counts"]}
    session.recorder.take_over(values["recorded"])
    session.breath.period_s = values.get("breath_period_s")
    if session.info.live:
        session.offset_s = online.time_s + 1 / max(session.info.fps, 1.0)
        session.offset_index = online.index + 1
    else:
        # The last one too, or a session that is stopped before its next frame would begin anew after that.
        session.last_index = session.skip_until = int(values["frame"])
