"""Run every operation, function and layer over orders, dtypes and memory layouts, and write down what was found.

    python tools/operations_table.py             on the CPU; with PyTorch installed, against it too
    python tools/operations_table.py --device cuda

Results are kept per device in docs/operations.json; docs/operations.md is made from all that are there.
"""

from __future__ import annotations

import argparse
import datetime as dt
import importlib.metadata
import importlib.util
import json
import sys
import textwrap
import warnings
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

import cases  # noqa: E402
import layer_cases  # noqa: E402

from minigrad import Tensor, grad  # noqa: E402
from minigrad.gradcheck import check_gradients  # noqa: E402

DTYPES = {"float64": np.float64, "float32": np.float32, "float16": np.float16}
KINDS = {"operations": "operation", "functions": "function", "layers": "layer"}


def _strided(a: np.ndarray) -> np.ndarray:
    wide = np.zeros((*a.shape[:-1], 2 * a.shape[-1]), a.dtype) if a.ndim else a.copy()
    view = wide[..., ::2] if a.ndim else wide
    view[...] = a
    return view


LAYOUTS = {"row by row": lambda a: a, "column by column": lambda a: np.array(a, order="F"),
           "reversed": lambda a: np.asarray(np.flip(np.flip(a).copy())), "every second": _strided,
           "repeated": lambda a: np.broadcast_to(a[:1], a.shape) if a.ndim else a}


def cast(arrays: list[np.ndarray], dtype: Any) -> list[np.ndarray]:
    """The floating-point ones in another dtype."""
    return [a.astype(dtype) if a.dtype.kind == "f" else a for a in arrays]


def outputs(call: Any, arrays: list[np.ndarray], device: str) -> list[np.ndarray]:
    """What a call gives for the arrays, as Tensors on a device."""
    return [y.numpy() for y in cases.as_tuple(call(*[Tensor(a, device=device) for a in arrays]))]


def worst(found: Any, wanted: Any) -> float:
    """The largest relative error over several arrays."""
    return max([cases.relative(np.asarray(y), np.asarray(z)) for y, z in zip(found, wanted, strict=True)], default=0.0)


def derivatives(call: Any, arrays: list[np.ndarray], device: str, order: int) -> list[np.ndarray]:
    """The gradients of Σ y³, of the sum of their squares, and so on."""
    xs = [Tensor(a, device=device, requires_grad=a.dtype.kind == "f") for a in arrays]
    leaves = [x for x in xs if x.requires_grad]
    terms, found = [(y * y * y).sum() for y in cases.as_tuple(call(*xs)) if y.requires_grad], []
    for _ in range(order):
        if not terms:
            break
        gs = [g for g in grad(terms, leaves, create_graph=True, allow_unused=True) if g is not None]
        found += [g.numpy() for g in gs]
        terms = [(g * g).sum() for g in gs if g.requires_grad]
    return found


def measured(row: Any, device: str) -> dict[str, Any]:
    """What one row gives: errors by dtype (of values, of gradients), by layout and by order, and against PyTorch."""
    operation = isinstance(row, cases.Case)

    def pure(dtype: Any, place: str = device) -> tuple[Any, list[np.ndarray]]:
        return (row.call, cast(row.draw(), dtype)) if operation else row.pure(dtype, place)

    exact, arrays = pure(np.float64, "cpu")

    def reference(given: list[np.ndarray]) -> Any:
        return cases.as_tuple(row.reference(*given)) if operation else outputs(exact, given, "cpu")

    dtypes = {}
    for name, dtype in DTYPES.items():
        call, given = pure(dtype)
        wide = cast(given, np.float64)
        slopes = (layer_cases.gradients(f, a, d) for f, a, d in ((call, given, device), (exact, wide, "cpu")))
        dtypes[name] = [worst(outputs(call, given, device), reference(wide))]
        if row.order and (name != "float64" or device != "cpu"):
            dtypes[name].append(worst(*slopes))
    call = pure(np.float64)[0]
    layouts = {}
    for name, layout in LAYOUTS.items():
        given = [layout(a) for a in arrays]
        layouts[name] = worst(outputs(call, given, device), reference([np.ascontiguousarray(a) if a.ndim else a
                                                                       for a in given]))
    if device == "cpu":
        orders = list(check_gradients(exact, tuple(arrays), row.order)) if row.order else []
    else:  # against the CPU, whose derivatives are checked against differences
        order = min(row.order, 2)
        orders = [worst(derivatives(call, arrays, device, order), derivatives(exact, arrays, "cpu", order))] * order
    found = {"dtypes": dtypes, "layouts": layouts, "orders": orders}
    if not operation and device == "cpu" and importlib.util.find_spec("torch"):
        from oracle import agree_row

        found["torch"] = agree_row(row)
    return found


def larger(a: list[float | None], b: list[float | None]) -> list[float | None]:
    """The larger of each two, as long as the longer list; None is no number."""
    a, b = [x + [None] * (max(len(a), len(b)) - len(x)) for x in (a, b)]
    return [x if y is None else y if x is None else max(x, y) for x, y in zip(a, b)]


def by_name(rows: list[tuple[str, dict[str, Any]]]) -> dict[str, Any]:
    """The worst of the rows of one name."""
    found: dict[str, Any] = {}
    for name, row in rows:
        entry = found.setdefault(name, {"rows": 0, "dtypes": {}, "layouts": {}, "orders": []})
        entry["rows"] += 1
        for key, errors in row["dtypes"].items():
            entry["dtypes"][key] = larger(entry["dtypes"].get(key, []), errors)
        for key, error in row["layouts"].items():
            entry["layouts"][key] = max(error, entry["layouts"].get(key, 0.0))
        for key in ("orders", "torch"):
            if key in row:
                entry[key] = larger(entry.get(key, []), row[key])
    return found


def gpu_check() -> str:
    """What the newest record of `make gpu-check` says of its tests."""
    records = sorted((ROOT / "benchmarks" / "results").glob("gpu-*.json"))
    if not records:
        return "`make gpu-check` has left no record."
    record = json.loads(records[-1].read_text(encoding="utf-8"))
    return (f"The tests of `make gpu-check`, which compare every operation's rows with the CPU, were last recorded on "
            f"{record['date']} ({record['gpu']}): {record['tests']['said'].split(' in ')[0]}.")


def _errors(errors: list[float | None], first: int = 1) -> str:
    return "<br>".join(f"{n}: {e:.0e}" for n, e in enumerate(errors, first) if e is not None)


def _pair(errors: list[float | None]) -> str:
    return ", ".join(f"{e:.0e}" for e in errors if e is not None)


def line(name: str, kind: str, results: dict[str, Any]) -> str:
    """One line of the table: a name with what ran on the CPU and, in the last column, on a GPU."""
    here, there = (results.get(device, {}).get(kind, {}).get(name) for device in ("cpu", "cuda"))
    gpu = f"{results['cuda']['date']}: {_pair(there['dtypes']['float64'])}" if there else "not run"
    if here is None:
        return f"| `{name}` | {' | '.join(['not run'] * 6)} | {gpu} |"
    float64 = here["dtypes"]["float64"] if kind == "operations" else here.get("torch")
    cells = [f"`{name}`", str(here["rows"]), _errors(here["orders"]) or "none", _errors(float64 or [], 0) or "not run",
             *(_pair(here["dtypes"][dtype]) for dtype in ("float32", "float16")),
             f"{max(here['layouts'].values()):.0e}", gpu]
    return f"| {' | '.join(cells)} |"


def page(results: dict[str, Any]) -> str:
    """docs/operations.md."""
    made = "; ".join(f"{d}: {results[d]['date']}, NumPy {results[d]['numpy']}, PyTorch {results[d]['torch']}"
                     for d in sorted(results))
    paragraphs = [
        "# What was run for each operation, function and layer",
        ("Made by `python tools/operations_table.py` from the rows of `tests/cases.py` and `tests/layer_cases.py` "
        f"({made}). Errors are largest differences divided by the largest reference value, the worst over a name's "
        "rows; on a GPU, of float64, and against the CPU."),
        "* derivatives: by inputs and parameters, order by order, against finite differences in float64",
        ("* float64: results (0) of operations against NumPy; of functions and layers against PyTorch, with their "
        "derivatives of first and second order"),
        "* float32, float16: results, first derivatives; against float64 on the same rounded numbers",
        f"* layouts: results with inputs laid out {', '.join(LAYOUTS)}; the worst",
        gpu_check(),
        ("`make test` runs the same rows, and each operation on calls drawn at random besides; `make parity` compares "
        "functions and layers with PyTorch over many more of their options."),
    ]
    lines = "\n\n".join(textwrap.fill(p, 118, subsequent_indent="  " * p.startswith("*"), break_on_hyphens=False)
                        for p in paragraphs).replace("\n\n* ", "\n* ").replace("\n* ", "\n\n* ", 1).split("\n")
    heads = ["rows", "derivatives", "float64", "float32", "float16", "layouts", "GPU"]
    for kind, title in KINDS.items():
        names = {name for d in results for name in results[d].get(kind, {})}
        lines += ["", f"## {kind.capitalize()}", "", f"| {title} | {' | '.join(heads)} |", "|---" * 8 + "|"]
        lines += [line(name, kind, results) for name in sorted(names, key=str.lower)]
    return "\n".join(lines) + "\n"


def run(device: str, only: list[str] | None) -> dict[str, Any]:
    """The results of all rows, or those of some names, on a device."""
    found: dict[str, Any] = {"date": dt.date.today().isoformat(), "numpy": np.__version__, "torch": "not run"}
    if device == "cpu" and importlib.util.find_spec("torch"):
        found["torch"] = importlib.metadata.version("torch")
    tables = {"operations": cases.CASES, "functions": layer_cases.FUNCTIONS, "layers": layer_cases.LAYERS}
    for kind, rows in tables.items():
        found[kind] = by_name([(row.name, measured(row, device)) for row in rows if not only or row.name in only])
    return found


def main(arguments: list[str] | None = None) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--out", type=Path, default=ROOT / "docs", help="the folder to write to")
    parser.add_argument("--only", nargs="*", help="names of operations, functions and layers")
    given = parser.parse_args(arguments)
    store = given.out / "operations.json"
    results = json.loads(store.read_text(encoding="utf-8")) if store.exists() else {}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="enable_nested_tensor|Using padding='same'")
        results[given.device] = run(given.device, given.only)
    store.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    (given.out / "operations.md").write_text(page(results), encoding="utf-8")
    counts = ", ".join(f"{len(results[given.device][kind])} {kind}" for kind in KINDS)
    print(f"{counts} on {given.device}: {store}")


if __name__ == "__main__":
    main()
