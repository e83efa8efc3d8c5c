"""What was injected so far and what came of it, kept after every trial, so that one can go on later."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import asdict, dataclass, field
from pathlib import Path

from splatomy.io.atomic import write_json

_MOST_PROBLEMS = 10


@dataclass
class Row:
    """Trials of one fault at one place; ``injected`` = ``survived`` + ``lost``.

    resumed: trials after which the run went on. sentences: those that ended by themselves, with a sentence.
    """

    fault: str
    where: str
    injected: int = 0
    survived: int = 0
    lost: int = 0
    resumed: int = 0
    sentences: int = 0
    seconds: float = 0.0
    problems: list[str] = field(default_factory=list)


class Tally:
    """The rows of one section, in a file of their own."""

    def __init__(self, file: Path) -> None:
        self.file = file
        stored = json.loads(file.read_text()) if file.exists() else {"rows": [], "notes": []}
        self.rows = {(r["fault"], r["where"]): Row(**r) for r in stored["rows"]}
        self.notes: list[str] = stored["notes"]
        self.is_done: bool = stored.get("is_done", False)
        self.wanted: int = stored.get("wanted", 0)
        self.versions: list[str] = stored.get("versions", [])
        self.machines: list[str] = stored.get("machines", [])

    def row(self, fault: str, where: str) -> Row:
        """The row of a fault at a place, made if need be."""
        return self.rows.setdefault((fault, where), Row(fault, where))

    def count(self, fault: str, where: str) -> int:
        """How often that was injected so far."""
        return self.row(fault, where).injected

    def add(
        self,
        fault: str,
        where: str,
        problems: list[str],
        *,
        resumed: bool = False,
        sentence: bool = False,
        seconds: float = 0.0,
    ) -> None:
        """Notes one trial; whatever is wrong afterwards counts as lost."""
        row = self.row(fault, where)
        row.injected += 1
        row.survived += not problems
        row.lost += bool(problems)
        row.resumed += resumed
        row.sentences += sentence
        row.seconds = round(row.seconds + seconds, 2)
        row.problems = [*row.problems, *problems][:_MOST_PROBLEMS]
        self.write()

    def note(self, text: str) -> None:
        """Something that the reader of the table should know, such as what could not be tried here."""
        if text not in self.notes:
            self.notes.append(text)
            self.write()

    def begin(self, wanted: int, version: str) -> None:
        """From now on so many faults are wanted of this version; only when they are done is the section."""
        self.wanted, self.is_done = wanted, False
        self.versions = list(dict.fromkeys([*self.versions, version]))
        machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"
        self.machines = list(dict.fromkeys([*self.machines, machine]))
        self.write()

    def finish(self) -> None:
        """Everything that was wanted of this section has been tried."""
        self.is_done = True
        self.write()

    def merge(self, other: Tally) -> None:
        """Adds what another tally of the same section counted, which is as far as the one that is further."""
        for theirs in other.rows.values():
            row = self.row(theirs.fault, theirs.where)
            for name in ("injected", "survived", "lost", "resumed", "sentences", "seconds"):
                setattr(row, name, getattr(row, name) + getattr(theirs, name))
            row.problems = [*row.problems, *theirs.problems][:_MOST_PROBLEMS]
        self.notes = list(dict.fromkeys([*self.notes, *other.notes]))
        self.versions = list(dict.fromkeys([*self.versions, *other.versions]))
        self.machines = list(dict.fromkeys([*self.machines, *other.machines]))
        if (other.is_done, other.wanted) > (self.is_done, self.wanted):
            self.is_done, self.wanted = other.is_done, other.wanted
        self.write()

    def write(self) -> None:
        """Keeps the rows."""
        rows = [asdict(row) for row in self.rows.values()]
        kept = {"wanted": self.wanted, "is_done": self.is_done, "versions": self.versions}
        write_json(self.file, {**kept, "machines": self.machines, "rows": rows, "notes": self.notes})
