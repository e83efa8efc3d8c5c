"""Nothing is unpickled, evaluated or run through a shell: every call that could is found in the source."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted(
    path
    for folder in ("core", "gui", "slicer_extension", "resources")
    for path in (ROOT / folder).rglob("*.py")
)
MODULES = {
    "pickle",
    "cPickle",
    "marshal",
    "shelve",
    "dill",
    "cloudpickle",
    "joblib",
    "jsonpickle",
    "telnetlib",
}
CALLS = {"eval", "exec", "compile", "__import__", "execfile"}
ALLOWED = {
    # PyTorch's restricted unpickler, which builds tensors and nothing else, in a process of its own.
    ("core/splatomy/weights/_unpickle.py", "torch.load"),
}


@functools.cache
def tree(path: Path) -> ast.Module:
    """The syntax tree of a source."""
    return ast.parse(path.read_text(encoding="utf-8"))


def dotted(node: ast.expr) -> str:
    """The name a.b.c of an expression, empty for another one."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        inner = dotted(node.value)
        return f"{inner}.{node.attr}" if inner else ""
    return ""


def says(call: ast.Call, name: str, value: object) -> bool:
    """True if a call gives a keyword this constant."""
    return any(
        k.arg == name and isinstance(k.value, ast.Constant) and k.value.value is value for k in call.keywords
    )


def findings(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and name of everything that could run what a file says."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, a.name) for a in node.names if a.name.split(".")[0] in MODULES)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in MODULES:
            yield node.lineno, node.module or ""
        elif isinstance(node, ast.Call):
            name = dotted(node.func)
            last = name.split(".")[-1]
            if name in CALLS or name in ("os.system", "os.popen", "subprocess.getoutput"):
                yield node.lineno, name
            if last in ("read_pickle", "load_module", "exec_module") or name in (
                "yaml.load",
                "yaml.unsafe_load",
            ):
                yield node.lineno, name
            if name in ("np.load", "numpy.load") and not says(node, "allow_pickle", False):
                yield node.lineno, name
            if name == "torch.load":
                yield (
                    node.lineno,
                    name if says(node, "weights_only", True) else f"{name} without weights_only",
                )
            shell = [k for k in node.keywords if k.arg == "shell"]
            if shell and not says(node, "shell", False):
                yield node.lineno, f"{name} with shell"
            if says(node, "trust_remote_code", True) or says(node, "allow_pickle", True):
                yield node.lineno, name
            if name.startswith("torch.hub") or last == "load_from_checkpoint":
                yield node.lineno, name
        if isinstance(node, ast.keyword) and node.arg == "use_safetensors" and says_no(node):
            yield node.value.lineno, "use_safetensors=False"


def says_no(node: ast.keyword) -> bool:
    """True if a keyword is given the constant False."""
    return isinstance(node.value, ast.Constant) and node.value.value is False


def test_nothing_is_unpickled_or_evaluated() -> None:
    assert len(SOURCES) > 200
    bad = []
    for path in SOURCES:
        name = path.relative_to(ROOT).as_posix()
        for line, what in findings(tree(path)):
            if (name, what) not in ALLOWED:
                bad.append(f"{name}:{line} {what}")
    assert not bad


def test_no_source_listens() -> None:
    """No socket of ours waits for anybody: front ends speak through pipes and files."""
    for path in SOURCES:
        for node in ast.walk(tree(path)):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            roots = {n.split(".")[0] for n in names}
            assert not roots & {"socketserver", "xmlrpc", "flask", "aiohttp", "fastapi"}, path
            assert "http.server" not in names and "multiprocessing.managers" not in names, path
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                assert node.func.attr not in ("listen", "create_server", "start_server"), path


@pytest.mark.parametrize(
    "line",
    [
        "import pickle", "from pickle import loads", "eval('1')", "np.load(p)", "torch.load(p)",
        "np.load(p, allow_pickle=True)", "subprocess.run(w, shell=True)", "os.system('x')", "yaml.load(t)",
        "AutoModel.from_pretrained(p, trust_remote_code=True)", "x.from_pretrained(p, use_safetensors=False)",
    ],
)  # fmt: skip
def test_the_audit_sees(line: str) -> None:
    assert [what for _, what in findings(ast.parse(line)) if ("x", what) not in ALLOWED]
