"""Qt classes that are made only through their subclasses."""

from __future__ import annotations

from abc import ABCMeta

from PyQt6.sip import wrappertype


class AbstractQt(wrappertype, ABCMeta):
    """The metaclass of QObjects with abstract methods: one that lacks any cannot be made (TypeError)."""
