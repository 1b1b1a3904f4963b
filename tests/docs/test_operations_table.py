"""The command that makes docs/operations.md, and that the page is complete."""

import json
import runpy
from pathlib import Path

import pytest
from cases import CASES
from layer_cases import FUNCTIONS, LAYERS

ROOT = Path(__file__).resolve().parents[2]
TOOL = runpy.run_path(str(ROOT / "tools" / "operations_table.py"))


def test_a_part_of_the_table(tmp_path, capsys):
    TOOL["main"](["--only", "tanh", "argmax", "concat", "LSTM", "--out", str(tmp_path)])
    assert "3 operations, 1 functions, 1 layers on cpu" in capsys.readouterr().out
    found = json.loads((tmp_path / "operations.json").read_text(encoding="utf-8"))["cpu"]
    assert set(found["operations"]) == {"tanh", "argmax", "concat"}
    tanh, lstm = found["operations"]["tanh"], found["layers"]["LSTM"]
    assert len(tanh["orders"]) == 3
    assert max(tanh["orders"]) < 1e-6
    assert len(lstm["orders"]) == 2
    assert [len(lstm["dtypes"][d]) for d in ("float64", "float32", "float16")] == [1, 2, 2]
    assert 0 < lstm["dtypes"]["float32"][1] < 1e-5 < lstm["dtypes"]["float16"][1] < 1e-2
    assert found["operations"]["argmax"]["orders"] == []
    assert found["operations"]["concat"]["rows"] > 1
    page = (tmp_path / "operations.md").read_text(encoding="utf-8")
    assert "| `tanh` | 1 | 1: " in page
    assert all(line.endswith(" not run |") for line in page.splitlines() if line.startswith("| `"))


def test_results_of_another_device_are_kept(tmp_path):
    TOOL["main"](["--only", "tanh", "--out", str(tmp_path)])
    store = tmp_path / "operations.json"
    other = json.loads(store.read_text(encoding="utf-8"))
    other["cpu"]["date"] = "2001-02-03"
    store.write_text(json.dumps({"cuda": other["cpu"]}), encoding="utf-8")
    TOOL["main"](["--only", "exp", "--out", str(tmp_path)])
    page = (tmp_path / "operations.md").read_text(encoding="utf-8")
    assert "| `tanh` | not run | not run | not run | not run | not run | not run | 2001-02-03: " in page
    assert "| `exp` | 1 | 1: " in page


@pytest.mark.parametrize(("kind", "rows"), [("operations", CASES), ("functions", FUNCTIONS), ("layers", LAYERS)])
def test_the_page_shows_what_was_run(kind, rows):
    """New rows come in when the command is run the next time; what is no longer there has to go."""
    results = json.loads((ROOT / "docs" / "operations.json").read_text(encoding="utf-8"))
    assert set(results["cpu"][kind]) <= {row.name for row in rows}, "run tools/operations_table.py again"
    assert len(results["cpu"][kind]) > 0.9 * len({row.name for row in rows}), "run tools/operations_table.py again"
    assert (ROOT / "docs" / "operations.md").read_text(encoding="utf-8") == TOOL["page"](results)
