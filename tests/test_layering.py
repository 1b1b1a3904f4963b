"""The direction of imports: a file imports only what stands above it in ORDER, and there are no cycles.

Read from the sources with `ast`, so imports inside functions count too. Imports under ``if TYPE_CHECKING:``
don't: they never run.
"""

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# A name stands for a module, or for a package with all that is in it but the parts that are listed by
# themselves; `minigrad` is the one file minigrad/__init__.py. Modules under one name may import each other.
ORDER = (
    "minigrad.modes",
    "minigrad.errors",
    "minigrad.backend",
    "minigrad.determinism",
    "minigrad.memory",
    "minigrad.threads",
    "minigrad.versions",
    "minigrad.graph",
    "minigrad.op",
    "minigrad.arraylike",
    "minigrad.kernels.registry",
    "minigrad.ops",
    "minigrad.kernels",
    "minigrad.autocasting",
    "minigrad.methods",
    "minigrad.engine",
    "minigrad.derivatives",
    "minigrad.tensor",
    "minigrad.creation",
    "minigrad.replaying",
    "minigrad.cuda",
    "minigrad.observers",
    "minigrad.functional",
    "minigrad.gradcheck",
    "minigrad.recomputation",
    "minigrad.expansion",
    "minigrad.layers",
    "minigrad.optim",
    "minigrad.data",
    "minigrad.io",
    "minigrad.run",
    "minigrad.viz",
    "minigrad.run.comparison",  # reads what viz has recorded
    "minigrad",
    "minigrad.examples",
    "minigrad.selftest",
    "minigrad.graph_commands",
    "minigrad.profiling",
    "minigrad.cli",
    "minigrad.__main__",
)
FOLDERS = {
    "minigrad": "minigrad",
    "minigrad.layers": "layers",
    "minigrad.optim": "optim",
    "minigrad.examples": "examples",
}


def modules() -> dict[str, Path]:
    """Name, as installed, and file of every module."""
    found = {}
    for package, folder in FOLDERS.items():
        for path in (ROOT / folder).rglob("*.py"):
            parts = (package, *path.relative_to(ROOT / folder).with_suffix("").parts)
            found[".".join(parts).removesuffix(".__init__")] = path
    return found


def rank(module: str) -> int | None:
    """The place of the longest name in ORDER that the module belongs to."""
    places = [
        (len(name), place)
        for place, name in enumerate(ORDER)
        if module == name or (name != "minigrad" and module.startswith(name + "."))
    ]
    return max(places)[1] if places else None


def running_nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """Every node of the tree but those that only a type checker reads."""
    pending = [tree]
    while pending:
        node = pending.pop()
        yield node
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            pending += node.orelse
        else:
            pending += ast.iter_child_nodes(node)


def imported_by(source: str, known: set[str]) -> set[str]:
    """Those of the known modules that a source text imports."""
    names = set()
    for node in running_nodes(ast.parse(source)):
        match node:
            case ast.Import():
                names |= {alias.name for alias in node.names}
            case ast.ImportFrom(module=str(module), level=0):
                # `from package import name` is an import of package.name where that is a module.
                parts = {f"{module}.{alias.name}" for alias in node.names}
                names |= parts & known
                if parts - known:
                    names.add(module)
            case ast.Call(
                func=ast.Name(id="import_module" | "__import__") | ast.Attribute(attr="import_module"),
                args=[ast.Constant(value=str(module)), *_],
            ):
                names.add(module)
    return names & known


def imports() -> dict[str, set[str]]:
    """For every module the modules that it imports."""
    files = modules()
    return {name: imported_by(path.read_text(encoding="utf-8"), set(files)) for name, path in files.items()}


IMPORTS = imports()


def out_of_order(module: str, targets: set[str]) -> list[str]:
    """Those of the targets that stand after the module in ORDER, which it must not know."""
    own = rank(module)
    assert own is not None
    return sorted(target for target in targets if (place := rank(target)) is None or place > own)


def test_every_module_has_a_place():
    homeless = sorted(name for name in modules() if rank(name) is None)
    assert not homeless, f"add to ORDER in {Path(__file__).name}, after all that they import: {homeless}"


@pytest.mark.parametrize("module", sorted(name for name in modules() if rank(name) is not None))
def test_imports_stand_earlier_in_the_order(module):
    wrong = out_of_order(module, IMPORTS[module])
    assert not wrong, f"{module} imports {wrong}, which stand after it in ORDER"


def test_no_import_cycles():
    try:
        TopologicalSorter(IMPORTS).prepare()
    except CycleError as error:
        raise AssertionError(f"import cycle: {' <- '.join(error.args[1])}") from None


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import minigrad.tensor", {"minigrad.tensor"}),
        ("import minigrad.tensor as t, numpy", {"minigrad.tensor"}),
        ("from minigrad.tensor import Tensor", {"minigrad.tensor"}),
        ("from minigrad import tensor, no_grad", {"minigrad", "minigrad.tensor"}),
        ("def f():\n    from minigrad.tensor import Tensor", {"minigrad.tensor"}),
        ("import importlib\nimportlib.import_module('minigrad.tensor')", {"minigrad.tensor"}),
        ("if TYPE_CHECKING:\n    from minigrad.tensor import Tensor", set()),
        ("if typing.TYPE_CHECKING:\n    import os\nelse:\n    import minigrad.tensor", {"minigrad.tensor"}),
        ("'import minigrad.tensor'", set()),
    ],
)
def test_the_reader_finds_imports(source, found):
    assert imported_by(source, {"minigrad", "minigrad.tensor"}) == found


def test_the_order_is_enforced():
    assert out_of_order("minigrad.op", {"minigrad.errors", "minigrad.tensor", "minigrad"}) == [
        "minigrad",
        "minigrad.tensor",
    ]
    assert out_of_order("minigrad.ops.matmul", {"minigrad.ops.shape", "minigrad.op"}) == []
    assert out_of_order("minigrad.examples.x", {"minigrad", "minigrad.layers"}) == []
    assert rank("minigrad.kernels.registry") < rank("minigrad.ops.matmul") < rank("minigrad.kernels.cpu")
    assert rank("minigrad.unknown") is None
