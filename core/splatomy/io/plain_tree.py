"""The parts of YAML and XML that calibration files use, as dictionaries, lists, numbers and texts.

OpenCV's own reader ends the whole process on some damaged files, and nothing here needs more of the formats.
"""

from __future__ import annotations

import re
from typing import Any
from xml.etree import ElementTree

_DEEPEST = 30
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d{1,4})?|[-+]?\.(inf|nan)", re.IGNORECASE)
_COMMENT = re.compile(r"""(?:^|\s)#.*$""")
_PAIR = re.compile(r"""("[^"]*"|'[^']*'|[^\s:#"'\[\]{},][^:#\[\]{},]*?)\s*:(?:\s+(.*)|$)""")
_TOKEN = re.compile(r"""\s*([\[\]{},:]|"[^"]*"|'[^']*'|[^\s\[\]{},:"']+)""")

_Lines = list[tuple[int, str]]


def yaml_tree(text: str) -> dict[str, Any]:
    """The mapping of a YAML text: nested mappings, lists in brackets or with dashes, tags left out.

    Raises:
        ValueError: it is no such text.
    """
    lines = _logical_lines(text)
    value, rest = _block(lines, 0, 0)
    if rest != len(lines) or not isinstance(value, dict):
        raise ValueError("no mapping")
    return value


def _logical_lines(text: str) -> _Lines:
    """(indentation, content) of each line; what is inside brackets is joined to one line."""
    lines: _Lines = []
    depth = 0
    for raw in text.splitlines():
        line = _COMMENT.sub("", raw).rstrip()
        if not line.strip() or line.startswith(("%", "---", "...")):
            continue
        if depth > 0:
            indent, before = lines.pop()
            line = f"{before} {line.strip()}"
        else:
            indent = len(line) - len(line.lstrip())
        content = line.strip()
        lines.append((indent, content))
        depth = sum(content.count(c) for c in "[{") - sum(content.count(c) for c in "]}")
    return lines


def _block(lines: _Lines, at: int, depth: int) -> tuple[Any, int]:
    """The mapping or list that starts at a line, and the line behind it."""
    if depth > _DEEPEST or at >= len(lines):
        raise ValueError("nothing, or nested too deeply")
    indent, is_list = lines[at][0], lines[at][1].startswith("-") and not _NUMBER.fullmatch(lines[at][1])
    mapping: dict[str, Any] = {}
    entries: list[Any] = []
    while at < len(lines) and lines[at][0] == indent:
        content = lines[at][1]
        if is_list:
            if content != "-" and not content.startswith("- "):
                break
            item = content[1:].strip()
            value, at = (_flow(item), at + 1) if item else _block(lines, at + 1, depth + 1)
            entries.append(value)
            continue
        pair = _PAIR.fullmatch(content)
        if pair is None:
            raise ValueError("no key and value")
        key, inline = pair[1].strip("\"'"), re.sub(r"^![^\s\[{]*\s*", "", pair[2] or "")
        if inline:
            mapping[key], at = _flow(inline), at + 1
        elif at + 1 < len(lines) and (lines[at + 1][0] > indent or lines[at + 1][1].startswith("- ")):
            mapping[key], at = _block(lines, at + 1, depth + 1)
        else:
            mapping[key], at = None, at + 1
    return (entries if is_list else mapping), at


def _flow(text: str) -> Any:
    """A value on one line."""
    if text[0] not in "[{":
        return _scalar(text)
    tokens = _TOKEN.findall(text)
    value, rest = _bracket(tokens, 0, 0)
    if rest != len(tokens):
        raise ValueError("something behind a closed bracket")
    return value


def _bracket(tokens: list[str], at: int, depth: int) -> tuple[Any, int]:
    """The value that starts at a token, and the token behind it."""
    if depth > _DEEPEST or at >= len(tokens):
        raise ValueError("an open bracket, or nested too deeply")
    if tokens[at] not in "[{":
        return _scalar(tokens[at]), at + 1
    is_list, at = tokens[at] == "[", at + 1
    entries: list[Any] = []
    mapping: dict[str, Any] = {}
    while at < len(tokens) and tokens[at] not in "]}":
        if tokens[at] == ",":
            at += 1
            continue
        value, at = _bracket(tokens, at, depth + 1)
        if is_list:
            entries.append(value)
            continue
        if at >= len(tokens) or tokens[at] != ":":
            raise ValueError("no key and value")
        mapping[str(value)], at = _bracket(tokens, at + 1, depth + 1)
    if at >= len(tokens):
        raise ValueError("an open bracket")
    return (entries if is_list else mapping), at + 1


def _scalar(text: str) -> Any:
    text = text.strip()
    if text[:1] in ("'", '"') and text[-1:] == text[:1] and len(text) > 1:
        return text[1:-1]
    if len(text) < 60 and _NUMBER.fullmatch(text):
        return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
    return text


def xml_tree(text: str) -> dict[str, Any]:
    """The children of an XML root as a mapping; texts of several numbers are lists.

    Raises:
        ValueError: it is no XML, or declares entities, which could expand without end.
    """
    if "<!ENTITY" in text or "<!DOCTYPE" in text:
        raise ValueError("entities")
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError:
        raise ValueError("no XML") from None
    value = _element(root, 0)
    if not isinstance(value, dict):
        raise ValueError("no mapping")
    return value


def _element(element: ElementTree.Element, depth: int) -> Any:
    if depth > _DEEPEST:
        raise ValueError("nested too deeply")
    children = list(element)
    if children and all(child.tag == "_" for child in children):
        return [_element(child, depth + 1) for child in children]
    if children:
        return {child.tag: _element(child, depth + 1) for child in children}
    words = (element.text or "").split()
    if not words:
        return None
    values = [_scalar(word) for word in words]
    if len(values) == 1:
        return values[0]
    return values if all(isinstance(v, float) for v in values) else (element.text or "").strip()
