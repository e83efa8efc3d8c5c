"""The file that describes a job."""

from __future__ import annotations

import json
import typing
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union

from splatomy.engine import RunRequest, default_method
from splatomy.engine.live import LiveRequest
from splatomy.engine.live.request import METHOD as LIVE_METHOD
from splatomy.errors import InputError
from splatomy.io.options import InputOptions
from splatomy.io.run import CONTRACT

_REQUIRED = {"contract": int, "input": str, "out": str}
_OPTIONAL = {
    "method": str,
    "preset": str,
    "config": dict,
    "device": str,
    "replicas": int,
    "seed": int,
    "deterministic": bool,
    "views": int,
    "options": dict,
    "detached": bool,
    "resume": bool,
    "force": bool,
    "live": dict,
}
_TYPES: dict[str, type] = {**_REQUIRED, **_OPTIONAL}
_WORDS = {int: "a whole number", str: "a text", dict: "an object", bool: "true or false"}


@dataclass(frozen=True)
class Job:
    """A run as its front end asked for it. detached: it outlives the front end. live: a session instead."""

    run: RunRequest
    detached: bool
    live: LiveRequest | None = None


def strict_json(text: str | bytes) -> Any:
    """The value of a strict JSON text.

    Raises:
        ValueError: it is not JSON, holds NaN or infinity, or is nested too deeply.
    """

    def refuse(word: str) -> Any:
        raise ValueError(f"{word} is not JSON")

    try:
        return json.loads(text, parse_constant=refuse)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def read_job(path: Path) -> Job:
    """The job of a file.

    Raises:
        InputError: it cannot be read, or a key or value is not one of the protocol.
    """
    try:
        fields = strict_json(path.read_bytes())
    except OSError as error:
        raise InputError(
            f"The job {path.name} cannot be read: {error.strerror}. Give the path of a JSON file."
        ) from None
    except ValueError:
        raise InputError(f"The job {path.name} cannot be read: expected strict JSON in UTF-8.") from None
    return _job(fields)


def _job(fields: Any) -> Job:
    if not isinstance(fields, dict):
        raise InputError(f"A job is a JSON object with contract, input and out; got {_kind(fields)}.")
    if fields.get("contract") != CONTRACT:
        raise InputError(
            f"The job's contract is {fields.get('contract')!r}: expected {CONTRACT}, the one that this "
            "version of splatomy speaks. Use matching versions of the two programs."
        )
    for name, value in fields.items():
        if name not in _TYPES:
            raise InputError(
                f"A job has no key {name!r}: expected some of {', '.join(_TYPES)}. Remove it or correct it."
            )
        if type(value) is not _TYPES[name] and not (value is None and name in _OPTIONAL):
            raise InputError(f"The job's {name}: expected {_WORDS[_TYPES[name]]}, got {_kind(value)}.")
    for name in _REQUIRED:
        if not fields.get(name):
            raise InputError(f"The job lacks {name}: expected {', '.join(_REQUIRED)}. Add it.")
    given = {name: value for name, value in fields.items() if value is not None}
    if given.get("resume") and given.get("force"):
        raise InputError("The job says both resume and force: expected one of them at most. Remove one.")
    same_name = {
        n: given[n]
        for n in ("method", "preset", "device", "replicas", "seed", "deterministic", "resume", "force")
        if n in given
    }
    options = _options(given.get("options", {}))
    session = _live(given, options) if "live" in given else None
    if session is not None:
        same_name["method"] = LIVE_METHOD
    elif "method" not in same_name:
        try:
            same_name["method"] = default_method(Path(given["input"]), options)
        except OSError as error:
            raise InputError(
                f"The job's input {given['input'][:60]!r} cannot be opened ({error.strerror}): expected the "
                "path of a file or folder. Correct it."
            ) from None
    request = RunRequest(
        source=Path(given["input"]),
        out=Path(given["out"]),
        settings=given.get("config", {}),
        options=options,
        num_views=given.get("views"),
        **same_name,
    )
    return Job(request, given.get("detached", False), session)


def _live(given: dict[str, Any], options: InputOptions) -> LiveRequest:
    """The session that a job with the key live asks for."""
    wishes = given["live"]
    if not wishes.keys() <= {"rate", "replay"} or wishes.get("rate", "real") not in ("real", "max"):
        raise InputError(
            'The job\'s live: expected {"rate": "real" or "max", "replay": PATH}, both optional.'
        )
    others = any(name in given for name in ("views", "replicas"))
    if given.get("method", LIVE_METHOD) != LIVE_METHOD or others:
        raise InputError(
            f"A live job takes the method {LIVE_METHOD} and neither views nor replicas. Leave them out."
        )
    replay = wishes.get("replay")
    same_name = {n: given[n] for n in ("preset", "device", "seed", "resume", "force") if n in given}
    return LiveRequest(
        source=given["input"],
        out=Path(given["out"]),
        rate=wishes.get("rate", "real"),
        settings=given.get("config", {}),
        options=options,
        replay=None if replay is None else Path(str(replay)),
        **same_name,
    )


def _options(values: dict[str, Any]) -> InputOptions:
    hints = typing.get_type_hints(InputOptions)
    read: dict[str, Any] = {}
    for name, value in values.items():
        if name not in hints:
            raise InputError(f"The job's options have no {name!r}: expected some of {', '.join(hints)}.")
        try:
            read[name] = _converted(value, hints[name])
        except TypeError:
            raise InputError(f"The job's option {name} cannot be {_kind(value)}.") from None
    return InputOptions(**read)


def _converted(value: Any, wanted: Any) -> Any:
    """The JSON value as the annotated type; lists become tuples, texts become paths.

    Raises:
        TypeError: it is of another type.
    """
    origin, parts = typing.get_origin(wanted), typing.get_args(wanted)
    if origin in (Union, UnionType):
        for part in parts:
            with suppress(TypeError):
                return _converted(value, part)
    elif origin is tuple and isinstance(value, list):
        kinds = (parts[0],) * len(value) if parts[-1] is Ellipsis else parts
        if len(value) == len(kinds):
            return tuple(_converted(v, k) for v, k in zip(value, kinds, strict=True))
    elif origin is Literal and value in parts:
        return value
    elif wanted is NoneType and value is None:
        return None
    elif wanted is Path and isinstance(value, str):
        return Path(value)
    elif wanted is float and type(value) in (int, float):
        return float(value)
    elif wanted in (int, bool, str) and type(value) is wanted:
        return value
    raise TypeError


def _kind(value: Any) -> str:
    """What a JSON value is, in words; long ones are cut."""
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
