"""How a method describes itself, and how methods are found."""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import Any

from splatomy.capture import Modality
from splatomy.errors import InputError

ENTRY_POINT_GROUP = "splatomy.methods"


@dataclass(frozen=True)
class MethodSpec:
    """A method, described by strings so that listing methods imports no torch.

    requires: names of Capture fields that must be present. config: "module:Config".
    reconstruct: "module:function" with the signature
    ``(captures, config, device, resume: Checkpoint | None = None) -> Task[Scene]``.
    load_scene: "module:function", SceneState -> Scene.
    presets: name -> config fields that differ from the defaults.
    still: it takes views of one still scene, whose order means nothing; otherwise frames of a recording.
    follow: "module:function" with the signature ``(captures, config, device, replicas) -> None``, a replica's
    part of a training; ``reconstruct`` then takes ``replicas`` too. None = it trains in one process.
    shared: the setting that says how many views a step has, which replicas share; None without ``follow``.
    halved: "module:function", Config -> a Config that needs about half of a GPU's memory, with which a
    training goes on where that memory ends, or None = there is none. None = a lack of memory ends the run.
    """

    name: str
    title: str
    modality: Modality
    requires: tuple[str, ...]
    abilities: frozenset[str]
    config: str
    reconstruct: str
    load_scene: str
    presets: Mapping[str, Mapping[str, Any]]
    citation: str
    still: bool = False
    follow: str | None = None
    shared: str | None = None
    halved: str | None = None


def load_symbol(path: str) -> Any:
    """The object that "module:name" names."""
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)


def list_methods() -> dict[str, MethodSpec]:
    """All methods by name: the folders of ``splatomy.methods`` and installed entry points."""
    package = importlib.import_module("splatomy.methods")
    found: dict[str, MethodSpec] = {}
    for info in pkgutil.iter_modules(package.__path__):
        spec = importlib.import_module(f"splatomy.methods.{info.name}").METHOD
        found[spec.name] = spec
    for point in entry_points(group=ENTRY_POINT_GROUP):
        spec = point.load()
        found[spec.name] = spec
    return dict(sorted(found.items()))


def find_method(name: str) -> MethodSpec:
    """The method of that name.

    Raises:
        InputError: no such method.
    """
    methods = list_methods()
    if name not in methods:
        raise InputError(
            f"There is no method {name!r}: expected one of {', '.join(methods)}. "
            "Run `splatomy methods` to see what each needs."
        )
    return methods[name]


def make_config(spec: MethodSpec, preset: str, overrides: Mapping[str, Any]) -> Any:
    """The method's frozen Config of a preset with single fields overridden.

    Raises:
        InputError: unknown preset or field, or a value of the wrong type or outside its range.
    """
    config_type = load_symbol(spec.config)
    if preset not in spec.presets:
        raise InputError(
            f"Method {spec.name} has no preset {preset!r}: expected one of {', '.join(spec.presets)}."
        )
    names = {f.name for f in dataclasses.fields(config_type)}
    values = dict(spec.presets[preset])
    for key, value in overrides.items():
        if key not in names:
            raise InputError(
                f"Method {spec.name} has no setting {key!r}: expected one of {', '.join(sorted(names))}."
            )
        values[key] = coerce(config_type, key, value)
    config = config_type(**values)
    check_ranges(config)
    return config


def coerce(config_type: type, name: str, value: Any) -> Any:
    """The value in the type of the config's field; text is parsed.

    Raises:
        InputError: it cannot be read as that type.
    """
    wanted = typing.get_type_hints(config_type)[name]
    if isinstance(value, str) and value.lower() == "none" and type(None) in typing.get_args(wanted):
        return None
    options = [t for t in (typing.get_args(wanted) or (wanted,)) if t is not type(None)]
    choices = typing.get_args(wanted) if typing.get_origin(wanted) is typing.Literal else ()
    if choices:
        if value in choices:
            return value
        raise InputError(f"Setting {name}: expected one of {', '.join(map(str, choices))}, got {value!r}.")
    kind = options[0]
    parse: Callable[[Any], Any] = kind
    if kind is bool:
        table = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
        text = str(value).lower()
        if text not in table:
            raise InputError(f"Setting {name}: expected true or false, got {value!r}.")
        return table[text]
    try:
        if kind is int and isinstance(value, float) and value != int(value):
            raise ValueError
        return parse(value)
    except (TypeError, ValueError):
        raise InputError(
            f"Setting {name}: expected a value of type {kind.__name__}, got {value!r}."
        ) from None


def check_ranges(config: Any) -> None:
    """Checks each field against the ``range`` of its metadata.

    Raises:
        InputError: a value lies outside.
    """
    for item in dataclasses.fields(config):
        limits = item.metadata.get("range")
        value = getattr(config, item.name)
        if limits is not None and value is not None and not limits[0] <= value <= limits[1]:
            unit = item.metadata.get("unit", "")
            raise InputError(
                f"Setting {item.name}: expected {limits[0]} to {limits[1]} {unit}".rstrip()
                + f", got {value}."
            )


def setting(default: Any, low: Any = None, high: Any = None, unit: str = "", doc: str = "") -> Any:
    """A config field with its default, range, unit and one-line help, for every form and the CLI."""
    limits = None if low is None else (low, high)
    return field(default=default, metadata={"range": limits, "unit": unit, "doc": doc})


def config_schema(spec: MethodSpec) -> list[dict[str, Any]]:
    """The config's fields as JSON: name, type, default, range, unit and help."""
    config_type = load_symbol(spec.config)
    hints = typing.get_type_hints(config_type)
    return [
        {
            "name": item.name,
            "type": getattr(hints[item.name], "__name__", str(hints[item.name])),
            "choices": list(typing.get_args(hints[item.name]))
            if typing.get_origin(hints[item.name]) is typing.Literal
            else None,
            "default": item.default,
            "range": item.metadata.get("range"),
            "unit": item.metadata.get("unit", ""),
            "doc": item.metadata.get("doc", ""),
        }
        for item in dataclasses.fields(config_type)
    ]
