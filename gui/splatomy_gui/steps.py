"""Which steps of a workspace are done, and which cannot be entered yet."""

from __future__ import annotations

from splatomy.review import ReviewState
from splatomy_gui.session import Session
from splatomy_gui.workspaces import WORKSPACES, workspace


def locked(session: Session, key: str) -> dict[str, str]:
    """Why a step of a workspace cannot be entered, by step."""
    has_case = session.kind is not None and session.kind.value == key
    has_result = session.result is not None and (has_case or session.case is None)
    reasons = {}
    for step in workspace(key).steps if key else ():
        if step.needs == "case" and not has_case:
            reasons[step.key] = "Open an input first (step Load)."
        elif step.needs == "result" and not has_result:
            reasons[step.key] = "There is no result yet: reconstruct first, or open a run."
    return reasons


def workspace_of(session: Session) -> str:
    """Key of the workspace that the result on show belongs to."""
    record = {} if session.result is None else session.result.record
    named = [space.key for space in WORKSPACES if record.get("method") in space.methods]
    if named:
        return named[0]
    if session.kind is not None:
        return session.kind.value
    return "endoscopy" if "clip" in record else "angiography"


def done(session: Session, key: str) -> set[str]:
    """The steps of a workspace that are done."""
    found: set[str] = set()
    if session.kind is not None and session.kind.value != key:
        return found
    if session.case is not None:
        found.add("load")
        if all(frame.state is ReviewState.CONFIRMED for frame in session.case.review.frames):
            found.add("masks")
    if session.result is not None:
        found.add("reconstruct")
    return found
