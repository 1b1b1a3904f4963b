"""Files of at most 500 lines and functions of at most 60 without their docstring: each fits into one head."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted(path for folder in ("minigrad", "layers", "optim") for path in (ROOT / folder).rglob("*.py"))


def long_functions(source, limit):
    """Functions over the limit, as texts `name: lines`."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) is not None else node.body
            lines = body[-1].end_lineno - body[0].lineno + 1 if body else 0
            if lines > limit:
                found.append(f"{node.name}: {lines}")
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_files_and_functions_are_short(path):
    source = path.read_text(encoding="utf-8")
    assert len(source.splitlines()) <= 500
    assert not long_functions(source, limit=60)


def test_the_measure():
    source = 'def f():\n    """Two\n    lines."""\n    a = 1\n\n    return a\n'
    assert long_functions(source, limit=3) == []
    assert long_functions(source, limit=2) == ["f: 3"]
