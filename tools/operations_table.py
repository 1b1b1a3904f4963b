"""Run every row of the table of operations over orders, dtypes and memory layouts, and write down what was found.

    python tools/operations_table.py             on the CPU
    python tools/operations_table.py --device cuda

Results are kept per device in docs/operations.json; docs/operations.md is made from all that are there.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

import cases  # noqa: E402

from minigrad import Tensor, grad  # noqa: E402
from minigrad.gradcheck import check_gradients  # noqa: E402

DTYPES = {"float64": np.float64, "float32": np.float32, "float16": np.float16}
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


def outputs(case: Any, arrays: list[np.ndarray], device: str,
            wanted: bool = False) -> tuple[list[Tensor], tuple[Any, ...]]:
    """The arguments as Tensors on a device, and what the call gives."""
    xs = [Tensor(a, device=device, requires_grad=wanted and a.dtype.kind == "f") for a in arrays]
    return xs, cases.as_tuple(case.call(*xs))


def worst(found: Any, wanted: Any) -> float:
    """The largest relative error over several outputs."""
    return max([cases.relative(y.numpy(), z) for y, z in zip(found, wanted, strict=True)], default=0.0)


def derivatives(case: Any, arrays: list[np.ndarray], device: str, order: int) -> list[np.ndarray]:
    """The gradients of Σ y³, of the sum of their squares, and so on."""
    xs, ys = outputs(case, arrays, device, True)
    leaves = [x for x in xs if x.requires_grad]
    terms, found = [(y * y * y).sum() for y in ys if y.requires_grad], []
    for _ in range(order):
        if not terms:
            break
        gs = [g for g in grad(terms, leaves, create_graph=True, allow_unused=True) if g is not None]
        found += [g.numpy() for g in gs]
        terms = [(g * g).sum() for g in gs if g.requires_grad]
    return found


def measured(case: Any, device: str) -> dict[str, Any]:
    """What one row gives: errors by dtype, by layout and by order, all relative to the largest element."""
    arrays = case.draw()
    wanted = cases.as_tuple(case.reference(*arrays))
    dtypes = {}
    for name, dtype in DTYPES.items():
        given = cast(arrays, dtype)
        exact = cases.as_tuple(case.reference(*cast(given, np.float64)))
        dtypes[name] = worst(outputs(case, given, device)[1], exact)
    layouts = {}
    for name, layout in LAYOUTS.items():
        given = [layout(a) for a in arrays]
        exact = wanted if name != "repeated" else cases.as_tuple(case.reference(*[a.copy() for a in given]))
        layouts[name] = worst(outputs(case, given, device)[1], exact)
    if device == "cpu":
        orders = list(check_gradients(case.call, arrays, case.order)) if case.order else []
    else:  # against the CPU, whose derivatives are checked against differences
        order = min(case.order, 2)
        here, there = derivatives(case, arrays, "cpu", order), derivatives(case, arrays, device, order)
        error = max([cases.relative(a, b) for a, b in zip(there, here, strict=True)], default=0.0)
        orders = [error] * order
    return {"dtypes": dtypes, "layouts": layouts, "orders": orders}


def by_operation(rows: list[tuple[str, dict[str, Any]]]) -> dict[str, Any]:
    """The worst of an operation's rows; of orders, as many as all rows that have derivatives reach."""
    found: dict[str, Any] = {}
    for name, row in rows:
        entry = found.setdefault(name, {"rows": 0, "dtypes": {}, "layouts": {}, "orders": []})
        entry["rows"] += 1
        for kind in ("dtypes", "layouts"):
            for key, error in row[kind].items():
                entry[kind][key] = max(error, entry[kind].get(key, 0.0))
        for n, error in enumerate(row["orders"]):
            entry["orders"][n:] = [max([error, *entry["orders"][n : n + 1]]), *entry["orders"][n + 1 :]]
    return found


def page(results: dict[str, Any]) -> str:
    """docs/operations.md."""
    devices = sorted(results)
    made = "; ".join(f"{d}: {results[d]['date']}, NumPy {results[d]['numpy']}" for d in devices)
    lines = [
        "# What was run for each operation", "",
        "Made by `python tools/operations_table.py` from the rows of `tests/cases.py`",
        f"({made}). Errors are the largest difference divided by the largest reference",
        "value, the worst over an operation's rows. Values are compared with NumPy in float64; on the CPU derivatives",
        "are compared with finite differences in float64 to the order shown, on a GPU with the CPU's. The layouts are:",
        ", ".join(LAYOUTS) + ".", "",
        "`make test` runs the same rows, and each operation on calls drawn at random besides; `make parity` compares",
        "with PyTorch, with every option of the functions and layers.", "",
        "| operation | device | rows | order: error | float64 | float32 | float16 | worst layout |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name in sorted({name for d in devices for name in results[d]["operations"]}):
        for device in devices:
            entry = results[device]["operations"].get(name)
            if entry is None:
                lines.append(f"| `{name}` | {device} | not run | | | | | |")
                continue
            orders = "<br>".join(f"{n}: {e:.0e}" for n, e in enumerate(entry["orders"], start=1)) or "no derivative"
            errors = " | ".join(f"{entry['dtypes'][d]:.0e}" for d in DTYPES)
            lines.append(f"| `{name}` | {device} | {entry['rows']} | {orders} | {errors} | "
                         f"{max(entry['layouts'].values()):.0e} |")
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--out", type=Path, default=ROOT / "docs", help="the folder to write to")
    parser.add_argument("--only", nargs="*", help="names of operations")
    given = parser.parse_args(arguments)
    rows = [(case.name, measured(case, given.device)) for case in cases.CASES
            if not given.only or case.name in given.only]
    store = given.out / "operations.json"
    results = json.loads(store.read_text(encoding="utf-8")) if store.exists() else {}
    results[given.device] = {"date": dt.date.today().isoformat(), "numpy": np.__version__,
                             "operations": by_operation(rows)}
    store.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    (given.out / "operations.md").write_text(page(results), encoding="utf-8")
    print(f"{len(rows)} rows of {len(results[given.device]['operations'])} operations on {given.device}: {store}")


if __name__ == "__main__":
    main()
