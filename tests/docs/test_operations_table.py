"""The command that makes docs/operations.md."""

import json
import runpy
from pathlib import Path

TOOL = runpy.run_path(str(Path(__file__).resolve().parents[2] / "tools" / "operations_table.py"))


def test_a_part_of_the_table(tmp_path, capsys):
    TOOL["main"](["--only", "tanh", "argmax", "concat", "--out", str(tmp_path)])
    assert "operations on cpu" in capsys.readouterr().out
    found = json.loads((tmp_path / "operations.json").read_text(encoding="utf-8"))["cpu"]["operations"]
    assert set(found) == {"tanh", "argmax", "concat"}
    assert len(found["tanh"]["orders"]) == 3
    assert max(found["tanh"]["orders"]) < 1e-6
    assert found["argmax"]["orders"] == []
    assert found["concat"]["rows"] > 1
    page = (tmp_path / "operations.md").read_text(encoding="utf-8")
    assert "| `tanh` | cpu | 1 | 1: " in page


def test_results_of_another_device_are_kept(tmp_path):
    TOOL["main"](["--only", "tanh", "--out", str(tmp_path)])
    store = tmp_path / "operations.json"
    other = json.loads(store.read_text(encoding="utf-8"))
    store.write_text(json.dumps({"cuda": other["cpu"]}), encoding="utf-8")
    TOOL["main"](["--only", "exp", "--out", str(tmp_path)])
    page = (tmp_path / "operations.md").read_text(encoding="utf-8")
    assert "| `tanh` | cuda | 1 |" in page
    assert "| `tanh` | cpu | not run |" in page
    assert "| `exp` | cpu | 1 |" in page
