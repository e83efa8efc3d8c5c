"""A session's checkpoint, and going on from it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from splatomy.events import Checkpoint

if TYPE_CHECKING:
    from splatomy.engine.live.session import LiveSession


def checkpoint_of(session: LiveSession) -> Checkpoint:
    """Everything needed to go on with another stream, or the rest of this one."""
    arrays, values = session.online.state()
    rows = session.path.rows
    arrays = {
        **arrays,
        "path.times_s": np.array([t for t, _ in rows]),
        "path.poses": np.stack([p for _, p in rows]) if rows else np.zeros((0, 4, 4), np.float32),
    }
    return Checkpoint(
        arrays,
        {
            "step": session.counts["frames"],
            "online": values,
            "frame": session.last_index,
            "generation": session.desk.generation,
            "counts": dict(session.counts),
            "recorded": session.recorder.values(),
        },
    )


def go_on(session: LiveSession, checkpoint: Checkpoint) -> None:
    """Takes over from a checkpoint; a recording goes on behind its frame, a live source where it is."""
    values, online = checkpoint.values, session.online
    online.restore(checkpoint.arrays, values["online"])
    times, poses = checkpoint.arrays["path.times_s"], checkpoint.arrays["path.poses"]
    session.path.rows = [(float(t), p) for t, p in zip(times, poses, strict=True)]
    session.desk.generation = int(values["generation"])
    session.counts = {**session.counts, **values["counts"]}
    session.recorder.take_over(values["recorded"])
    if session.info.live:
        session.offset_s = online.time_s + 1 / max(session.info.fps, 1.0)
        session.offset_index = online.index + 1
    else:
        # The last one too, or a session that is stopped before its next frame would begin anew after that.
        session.last_index = session.skip_until = int(values["frame"])
