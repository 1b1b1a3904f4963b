"""Measure minigrad beside PyTorch and the NumPy frameworks on this machine's CPU, and write a table and a plot.

Each library runs in a process of its own. They take turns in blocks of a tenth of a second, in another order every
round; what is reported is the median over the rounds of the ratio within a round, to the faster of PyTorch eager as it
is and with a raised threshold for mmap (glibc then reuses large blocks, as minigrad makes it do). Every result is
compared with PyTorch in float64 first. Libraries that are not installed are left out.

    make bench                                    all of it: about a quarter of an hour
    make bench ARGS="--only BatchNorm --rounds 9" some of it, printed and not written
    make bench ARGS="--only CNN --ladder"         minigrad with ever more of its kernels
"""

from __future__ import annotations

import argparse
import datetime as dt
import importlib.metadata
import importlib.util
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from works import WORKS, Work

from minigrad.run import Table

HERE = Path(__file__).resolve().parent
BLOCK = 0.1
#: Seconds between two libraries' turns: idle threads of linear algebra (OpenBLAS's, say) go on looking for work for up
#: to a tenth of a second, at the cost of whoever is next.
PAUSE = 0.12
BASES = ("torch eager", "torch eager, raised mmap threshold")
RAISED = {"MALLOC_MMAP_THRESHOLD_": str(2**30), "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1), "MALLOC_TOP_PAD_": str(2**26)}
#: Name in the tables: module of `peers`, package that has to be installed, variables of its process.
LIBRARIES: dict[str, tuple[str, str, dict[str, str]]] = {
    "minigrad": ("minigrad_", "numba", {"MINIGRAD_KERNELS": "compiled"}),
    "minigrad, oneDNN": ("minigrad_", "onednn", {}),
    "minigrad, NumPy only": ("minigrad_", "minigrad", {"MINIGRAD_KERNELS": "numpy"}),
    BASES[0]: ("torch_", "torch", {}),
    BASES[1]: ("torch_", "torch", RAISED),
    "torch.compile": ("torch_", "torch", {"BENCH_COMPILED": "1"}),
    "jax.jit": ("jax_", "jax", {}),
    "mygrad": ("mygrad_", "mygrad", {}),
    "autograd": ("autograd_", "autograd", {}),
    "tinygrad": ("tinygrad_", "tinygrad", {"DEV": "CPU", "TRAINING": "1"}),
    "minigrad, texts alone": ("minigrad_", "minigrad", {"MINIGRAD_KERNELS": "text"}),
    "minigrad, system's malloc": ("minigrad_", "numba", {"MINIGRAD_KERNELS": "compiled", "MINIGRAD_MALLOC": "system"}),
}
#: What `--ladder` measures: minigrad from its texts to all of its kernels, and what one lever alone gives.
LADDER = ("minigrad, texts alone", "minigrad, NumPy only", "minigrad, system's malloc", "minigrad", "minigrad, oneDNN",
          *BASES)
#: What is measured unless something is asked for.
USUAL = tuple(name for name in LIBRARIES if name not in ("minigrad, texts alone", "minigrad, system's malloc"))
REFERENCE = ("torch_", "torch", {"BENCH_FLOAT64": "1"})
#: The largest difference from float64 that passes, relative to the largest element.
TOLERANCE = 2e-5


def surroundings() -> dict[str, str]:
    """The variables of this process but those of OpenBLAS: libraries choose their own kernels for this processor."""
    return {key: value for key, value in os.environ.items() if not key.startswith("OPENBLAS_")}


def environment_of_workers() -> dict[str, Any]:
    """Machine and versions, as a worker's process sees them."""
    code = "import json; from minigrad.run import describe_environment as d; print(json.dumps(d()))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, env=surroundings())
    return json.loads(done.stdout)  # type: ignore[no-any-return]


class Worker:
    """A library's process."""

    def __init__(self, name: str, module: str, more: dict[str, str], threads: int) -> None:
        counts = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUM_CPU_THREADS"),
                               str(threads))
        path = os.pathsep.join(filter(None, (str(HERE), os.environ.get("PYTHONPATH"))))
        variables = {**surroundings(), **counts, "BENCH_THREADS": str(threads), "PYTHONPATH": path, **more}
        self.name = name
        self.said = tempfile.TemporaryFile("w+")  # noqa: SIM115 - as long as the process
        self.process = subprocess.Popen([sys.executable, str(HERE / "worker.py"), module], env=variables, text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.said)

    def ask(self, do: str, work: str, **more: Any) -> Any:
        """Send a request and wait for the reply."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write(json.dumps({"do": do, "work": work, **more}) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            self.said.seek(0)
            last = self.said.read().strip().splitlines()[-1:]
            raise RuntimeError(f"{self.name} ended at {do} of {work}: {' '.join(last)}")
        return json.loads(line)

    def values(self, work: str) -> dict[str, np.ndarray]:
        """What the library computes, in float64."""
        with tempfile.TemporaryDirectory() as folder:
            to = str(Path(folder, "values.npz"))
            self.ask("values", work, to=to)
            with np.load(to) as found:
                return dict(found)

    def close(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.wait()
        self.said.close()


def installed(package: str) -> bool:
    """Whether a library can be measured here."""
    if package == "onednn":
        from minigrad.kernels import onednn

        return onednn.problem() == ""
    return importlib.util.find_spec(package) is not None


def obstacle(name: str) -> str:
    """Why a library cannot be measured here; empty if it can be."""
    package = LIBRARIES[name][1]
    if not installed(package):
        return f"{package} is not installed"
    if package == "tinygrad" and shutil.which(os.environ.get("CC", "clang")) is None:
        return "tinygrad compiles with clang, which is not installed"
    return ""


def difference(found: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> float:
    """The largest difference of any array, relative to its largest element."""
    return max((float(np.abs(a.reshape(-1) - wanted[key].reshape(-1)).max() / max(np.abs(wanted[key]).max(), 1e-12))
                for key, a in found.items()), default=0.0)


def measure(work: Work, names: list[str], threads: int, rounds: int) -> dict[str, Any]:
    """Median seconds, ratios to the baseline, and differences from float64, by library."""
    reference = Worker("reference", REFERENCE[0], REFERENCE[2], threads)
    workers, ready, errors, told = [], [], {}, {}
    try:
        # Without PyTorch there are times, but neither errors nor ratios.
        known = installed(REFERENCE[1]) and reference.ask("build", work.name)
        wanted = reference.values(work.name) if known else {}
        reference.close()
        for name in names:
            module, _, more = LIBRARIES[name]
            worker = Worker(name, module, more, threads)
            workers.append(worker)
            try:
                if not worker.ask("build", work.name):
                    continue
                values = worker.values(work.name)
                if known:
                    errors[name] = difference(values, wanted)
                worker.ask("block", work.name, seconds=BLOCK)  # compiles, fills caches
                ready.append(worker)
            except RuntimeError as error:
                told[name] = str(error)
        times = take_turns(ready, work.name, rounds, told)
    finally:
        for worker in (*workers, reference):
            worker.close()
    medians = {name: statistics.median(t) for name, t in times.items()}
    base = min((name for name in BASES if name in medians), key=medians.__getitem__, default=None)
    ratios = {name: statistics.median(a / b for a, b in zip(t, times[base]))
              for name, t in times.items()} if base else {}
    return {"seconds": medians, "ratios": ratios, "base": base, "errors": errors, "failed": told}


def take_turns(live: list[Worker], work: str, rounds: int, told: dict[str, str]) -> dict[str, list[float]]:
    """The seconds of every round, by library; who fails on the way leaves, and what it said goes to `told`."""
    times: dict[str, list[float]] = {worker.name: [] for worker in live}
    for turn in range(rounds):
        first = turn % max(1, len(live))
        for worker in live[first:] + live[:first]:
            time.sleep(PAUSE)
            try:
                times[worker.name].append(worker.ask("block", work, seconds=BLOCK))
            except RuntimeError as error:
                told[worker.name] = str(error)
                del times[worker.name]
        live = [worker for worker in live if worker.name not in told]
    return times


def memory(names: list[str], threads: int, steps: int = 10) -> dict[str, int]:
    """By how many bytes a fresh process grows over the first training steps of the CNN, after it was built."""
    work = "step of the CNN 16-32-64"
    grown = {}
    for name in names:
        module, _, more = LIBRARIES[name]
        worker = Worker(name, module, more, threads)
        try:
            if worker.ask("build", work):
                grown[name] = worker.ask("memory", work, steps=steps)
        except RuntimeError as error:  # its failure at this work is in the report already
            print(error, file=sys.stderr)
        finally:
            worker.close()
    return grown


def import_seconds(rounds: int) -> dict[str, float]:
    """What imports take once NumPy is imported: medians. Bytecode is there, as after an installation."""
    environment = {key: v for key, v in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}

    def timed(statement: str) -> float:
        code = f"import time; import numpy; s = time.perf_counter(); {statement}; print(time.perf_counter() - s)"
        done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, env=environment)
        return float(done.stdout)

    statements = {"minigrad": "import minigrad", "minigrad.layers and .optim": "import minigrad.layers, minigrad.optim"}
    if installed("torch"):
        statements["torch"] = "import torch"
    with tempfile.TemporaryDirectory() as folder:
        environment["PYTHONPYCACHEPREFIX"] = folder
        for statement in statements.values():
            timed(statement)  # writes the bytecode
        return {name: statistics.median(timed(statement) for _ in range(rounds))
                for name, statement in statements.items()}


def table(results: dict[str, Any], names: list[str]) -> Table:
    """A row for each work: the baseline's time, and everyone's ratio to it."""
    shown = [name for name in names if name not in BASES]
    rows = []
    for work, found in results.items():
        base = found["base"]
        cells = [f"{found['ratios'][name]:.2f}" if name in found["ratios"] else "" for name in shown]
        error = found["errors"].get("minigrad", found["errors"].get("minigrad, NumPy only"))
        told = "" if error is None else f"{error:.0e}"
        rows.append((work, f"{1e3 * found['seconds'][base]:.3g}" if base else "", *cells, told))
    return Table(("forward and backward of", "torch eager, ms", *shown, "minigrad's error"), rows)


def growth_plot(results: dict[str, Any], to: Path) -> bool:
    """Draw how time grows with batch, width and depth; False without matplotlib."""
    try:
        import matplotlib.pyplot as plt
    except ImportError:
        return False
    figure, axes = plt.subplots(1, 3, figsize=(11, 3.6), constrained_layout=True, sharey=True)
    for axis, of in zip(axes, ("batch", "width", "depth")):
        found = [(WORKS[name].detail[("", "width", "depth", "batch").index(of)], r["seconds"])
                 for name, r in results.items() if WORKS[name].kind == "growth" and WORKS[name].detail[0] == of]
        for name in LIBRARIES:
            points = sorted((size, 1e3 * seconds[name]) for size, seconds in found if name in seconds)
            if points:
                axis.plot(*zip(*points), marker="o", markersize=3, label=name,
                          linewidth=2.2 if name == "minigrad" else 1)
        axis.set(xscale="log", yscale="log", xlabel=of)
        sizes = sorted({size for size, _ in found})
        axis.set_xticks(sizes, [str(size) for size in sizes])
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("one training step, ms")
    figure.legend(*axes[0].get_legend_handles_labels(), fontsize=7, loc="outside right center")
    figure.savefig(to)
    return True


def failures(works: dict[str, Any]) -> list[str]:
    """What failed, in words: which library at which work, and its last line."""
    return sorted({f"failed: {said}" for found in works.values() for said in found["failed"].values()})


def differing(works: dict[str, Any]) -> list[str]:
    """Which results are further from float64 than they may be."""
    return [f"{work}: {name} differs from float64 by {error:.1e}" for work, found in works.items()
            for name, error in found["errors"].items() if not error <= TOLERANCE]


def written(folder: Path, environment: dict[str, Any], found: dict[str, Any], names: list[str]) -> Path:
    """Write the report and its figures; returns the report's path."""
    cpu = re.sub(r"[^a-z0-9]+", "-", environment["cpu"].lower()).strip("-")[:40]
    stem = f"cpu-{cpu}-{dt.date.today().isoformat()}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{stem}.json").write_text(json.dumps({"environment": environment, **found}, indent=1) + "\n")
    main_works = {name: r for name, r in found["works"].items() if WORKS[name].kind != "growth"}
    drawn = growth_plot(found["works"], folder / f"{stem}.svg")
    text = [f"# Speed on the CPU, {dt.date.today().isoformat()}", "",
            ", ".join(f"{k} {environment[k]}" for k in ("cpu", "cores", "minigrad", "python", "numpy", "blas"))
            + "; " + ", ".join(f"{k} {v}" for k, v in environment["libraries"].items())
            + f"; {found['threads']} threads, {found['rounds']} rounds.", "",
            f"Made by `make bench`. Ratios are to the faster of {BASES[0]} and {BASES[1]}: below 1 is faster.", "",
            table(main_works, names).markdown(), "",
            "Memory that a fresh process grows by over the first ten steps of the CNN, MiB: "
            + ", ".join(f"{name} {size / 2**20:.0f}" for name, size in found["memory"].items()) + ".", "",
            "Import after NumPy's, ms: "
            + ", ".join(f"{name} {1e3 * s:.0f}" for name, s in found["import"].items()) + "."]
    if drawn:
        text += ["", f"![How the time of a step grows]({stem}.svg)"]
    left = [f"- left out: {name}, {said}" for name, said in found["left_out"].items()]
    notes = left + [f"- {said}" for said in failures(found["works"]) + differing(found["works"])]
    text += ["", *notes] if notes else []
    path = folder / f"{stem}.md"
    path.write_text("\n".join(text) + "\n")
    return path


def parser() -> argparse.ArgumentParser:
    """The options of the command line."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=15, help="turns of each library (default: 15)")
    options.add_argument("--threads", type=int, default=2, help="threads of each library (default: 2)")
    options.add_argument("--only", default="", metavar="TEXT", help="works with this in their name; not written")
    which = options.add_mutually_exclusive_group()
    which.add_argument("--libraries", nargs="+", choices=LIBRARIES, default=USUAL, help="the libraries (default: all)")
    which.add_argument("--ladder", dest="libraries", action="store_const", const=LADDER,
                       help="minigrad with ever more of its kernels, in place of the other libraries")
    options.add_argument("--to", type=Path, default=HERE / "results", help="where the report goes")
    return options


def main() -> int:
    """Measure, print, write; 1 if a result differs from float64."""
    given = parser().parse_args()
    obstacles = {name: obstacle(name) for name in given.libraries}
    names = [name for name, said in obstacles.items() if not said]
    left_out = {name: said for name, said in obstacles.items() if said}
    print("".join(f"left out: {name}, {said}\n" for name, said in left_out.items()), end="", file=sys.stderr)
    works = {name: measure(work, names, given.threads, given.rounds) for name, work in WORKS.items()
             if given.only in name and not print(name, file=sys.stderr)}
    print(table(works, names).text())
    if not given.only and given.libraries is not LADDER:
        environment = environment_of_workers()
        environment["libraries"] = {package: importlib.metadata.version(package) for package in
                                    sorted({LIBRARIES[n][1] for n in names} - {"minigrad", "onednn"})}
        found = {"threads": given.threads, "rounds": given.rounds, "works": works, "left_out": left_out,
                 "memory": memory([n for n in names if n != "torch.compile"], given.threads),
                 "import": import_seconds(given.rounds)}
        print(f"written: {written(given.to, environment, found, names)}")
    wrong = differing(works)
    print("".join(f"{said}\n" for said in failures(works) + wrong), end="", file=sys.stderr)
    return int(any(": minigrad" in said for said in wrong))


if __name__ == "__main__":
    sys.exit(main())
