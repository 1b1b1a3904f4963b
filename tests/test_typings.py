"""The links in typings/ that type checkers follow, and the tool that keeps them."""

import os
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TOOL = runpy.run_path(str(ROOT / "tools" / "link_typings.py"))

pytestmark = pytest.mark.skipif(os.name == "nt", reason="on Windows git may check out text in place of links")


def test_every_part_of_the_package_is_linked():
    problems = TOOL["differences"](TOOL["found"](), TOOL["wanted"]())
    assert not problems, "\n".join(["typings/minigrad: repair it with: make typings", *problems])
    broken = [name for name in TOOL["found"]() if not (TOOL["TYPINGS"] / name).exists()]
    assert not broken


def test_the_tool_finds_and_repairs_what_is_wrong(tmp_path):
    for folder in ("minigrad/ops", "minigrad/cache", "layers", "optim", "examples", "typings/minigrad"):
        (tmp_path / folder).mkdir(parents=True)
    for name in ("minigrad/tensor.py", "minigrad/ops/__init__.py", "minigrad/notes.md"):
        (tmp_path / name).touch()
    typings = tmp_path / "typings" / "minigrad"
    (typings / "gone.py").symlink_to("../../minigrad/gone.py")
    (typings / "ops").symlink_to("../../ops")

    targets = TOOL["wanted"](tmp_path)
    assert TOOL["differences"](TOOL["found"](typings), targets) == [
        "leads nowhere: gone.py",
        "missing: examples",
        "missing: layers",
        "missing: optim",
        "missing: tensor.py",
        "wrong: ops -> ../../ops, wanted ../../minigrad/ops",
    ]
    TOOL["repair"](typings, targets)
    assert TOOL["found"](typings) == targets
    assert all((typings / name).exists() for name in targets)


def test_the_tool_does_not_remove_what_is_no_link(tmp_path):
    (tmp_path / "own.py").touch()
    with pytest.raises(SystemExit, match=r"own\.py is not a symbolic link"):
        TOOL["repair"](tmp_path, {})
    assert (tmp_path / "own.py").exists()
