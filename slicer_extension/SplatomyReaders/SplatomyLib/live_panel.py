"""The section Live of the Endoscopy module: a session and the commands to it. Inside Slicer only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import slicer
from slicer.i18n import tr as _

from SplatomyLib.protocol import State

_BACK_S = 10.0


class LivePanel:
    """Starts a session and passes commands on; how it stands is told in words.

    actions, parameters: of the module, asked for anew each time. over: gets the run when it is over.
    """

    def __init__(
        self, ui: Any, session: Any, engine: Any, actions: Callable[[], Any], parameters: Callable[[], Any],
        over: Callable[[Any], None],
    ) -> None:  # fmt: skip
        self._ui, self._session, self._engine = ui, session, engine
        self._actions, self._parameters, self._over = actions, parameters, over
        self.run: Any = None
        self._frozen = False
        self._asked: dict[str, str] = {}
        self._generations: list[tuple[float, int]] = []
        session.logic.changed.connect(self._changed)

    def close(self) -> None:
        """The panel goes."""
        self._session.logic.changed.disconnect(self._changed)

    @property
    def running(self) -> bool:
        """True while a session goes on."""
        return self.run is not None and not self.run.job.state.is_over

    def start(self) -> None:
        """Starts a session with the named source."""

        def begin() -> None:
            with slicer.util.tryWithErrorDisplay(_("The live session could not be started.")):
                self._frozen, self._asked, self._generations = False, {}, []
                self.run = self._actions().live(self._parameters(), self._ended)
                self._show()

        if not self.running:
            self._engine.ensure(begin)

    def freeze(self) -> None:
        """Holds the surface, or lets it grow again."""
        self._frozen = not self._frozen
        self._tell(_("Freeze") if self._frozen else _("Go on"), "freeze", on=self._frozen)

    def rewind(self) -> None:
        """Takes the surface back."""
        if not self._generations:
            return
        wanted_s = self._generations[-1][0] - _BACK_S
        earlier = [generation for time_s, generation in self._generations if time_s <= wanted_s]
        self._tell(_("Back 10 s"), "rewind", generation=earlier[-1] if earlier else self._generations[0][1])

    def undo(self) -> None:
        """Takes the last command back."""
        self._tell(_("Undo"), "undo")

    def _tell(self, text: str, name: str, **fields: Any) -> None:
        if self.running:
            self._asked[self._actions().tell(self.run, name, **fields)] = text
            self._show()

    def _ended(self, run: Any) -> None:
        self._show()
        self._over(run)

    def _changed(self, run: Any) -> None:
        if run is self.run:
            self._show()

    def _show(self) -> None:
        job = self.run.job
        if job.live:
            seen = (float(job.live.get("time_s") or 0.0), int(job.live.get("generation") or 0))
            if not self._generations or self._generations[-1] != seen:
                self._generations = [*self._generations, seen][-1000:]
        for name in ("liveFreezeButton", "liveRewindButton", "liveUndoButton"):
            getattr(self._ui, name).enabled = self.running and bool(job.live)
        self._ui.liveStartButton.enabled = not self.running
        self._ui.liveFreezeButton.text = _("Go on") if self._frozen else _("Freeze")
        lines = [job.text(self._session.logic.now_s())]
        if self._asked:
            identifier, text = list(self._asked.items())[-1]
            state, reason = job.commands.get(identifier, ("sent", ""))
            if state == "rejected" and job.state is State.RUNNING:
                lines.append(_("{command}: not done. {reason}").format(command=text, reason=reason))
            else:
                lines.append(f"{text}: {state}")
        self._ui.liveLabel.text = "\n".join(lines)
