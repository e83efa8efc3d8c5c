"""Every action of the app in one table: text, shortcut, tooltip, icon and the menu that shows it.

A page binds what an action does with ``Actions.bind``. An action works while its scope is active; the
scopes that are active together never share a shortcut (tests/gui/test_actions.py).
"""

from __future__ import annotations

from splatomy_gui.actions.angiography import ANGIOGRAPHY
from splatomy_gui.actions.endoscopy import ENDOSCOPY
from splatomy_gui.actions.inspect import INSPECT
from splatomy_gui.actions.live import LIVE
from splatomy_gui.actions.masks import MASKS
from splatomy_gui.actions.registry import Actions, ActionSpec
from splatomy_gui.actions.shell import PLAYBACK, SHELL

TABLE: tuple[ActionSpec, ...] = (*SHELL, *PLAYBACK, *MASKS, *INSPECT, *ENDOSCOPY, *ANGIOGRAPHY, *LIVE)

SCOPES_OF_PAGE: dict[str, tuple[str, ...]] = {
    "masks": ("window", "masks"),
    "live": ("window", "live"),
    "inspect_endoscopy": ("window", "playback", "inspect", "endoscopy"),
    "inspect_angiography": ("window", "playback", "inspect", "angiography"),
}
"""Scopes that are active on a page; every other page has DEFAULT_SCOPES."""

DEFAULT_SCOPES = ("window", "playback")

__all__ = ["DEFAULT_SCOPES", "SCOPES_OF_PAGE", "TABLE", "ActionSpec", "Actions"]
