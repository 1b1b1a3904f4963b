"""Check and measure minigrad on this machine's GPU, and write what was found to benchmarks/results/gpu-*.md and .json.

Needs what is already there: CuPy, NumPy and pytest; tests that write files are skipped where there is no safetensors.
PyTorch, where installed, is measured beside it, plain, compiled and as a CUDA graph. What fails is told in the
report, the rest goes on, and the exit status is 1 then. After `--seconds` nothing new is begun.

    make gpu-check PYTHON=python3
"""

from __future__ import annotations

import argparse
import collections
import datetime as dt
import functools
import itertools
import json
import math
import os
import re
import statistics
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import minigrad
import minigrad.functional as F
from minigrad import Tensor, cuda, layers, ops, optim
from minigrad.backend import cuda_problem
from minigrad.examples import train_cnn, train_mlp
from minigrad.run import Table, describe_environment

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
ROUNDS, CALLS = 11, 5
PROCESSES = 8  # at most, that test: each has a context on the GPU, half a gigabyte
OUTCOMES = r"(\d+) (passed|failed|skipped|error)"  # in the closing line of pytest
SHOWN = 60  # failed tests in the report; the logs in build/ have all of them
PARTS = ("tests", "bandwidth", "normalization", "steps")
#: Who is measured; the first is compared with the others.
MINIGRAD, REPLAY = "minigrad", "minigrad replay"
PEERS = ("PyTorch eager", "torch.compile", "PyTorch CUDA graph")

Call = Callable[[], Any]
Found = dict[str, Any]


# ------------------------------------------------------------------ measuring


def host_seconds(work: Call) -> float:
    """Seconds of one call by the wall clock, with the GPU's work finished at both ends."""
    cuda.synchronize()
    start = time.perf_counter()
    for _ in range(CALLS):
        work()
    cuda.synchronize()
    return (time.perf_counter() - start) / CALLS


def compare(contestants: dict[str, Callable[[], Call]]) -> Found:
    """Median milliseconds of each, who take turns, and the median of the ratios to `MINIGRAD` within rounds.

    A contestant is a function that makes what is measured; one that fails is left out, and its error noted.
    """
    works: dict[str, Call] = {}
    failed: dict[str, str] = {}
    for name, make in contestants.items():
        try:
            work = make()
            for _ in range(4):
                work()
            cuda.synchronize()
            works[name] = work
        except Exception as error:  # noqa: BLE001 - other libraries fail in ways of their own; it is reported
            failed[name] = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    rounds = [{name: host_seconds(work) for name, work in works.items()} for _ in range(ROUNDS)]
    return {"ms": {name: 1e3 * statistics.median(each[name] for each in rounds) for name in works},
            "ratios": {name: statistics.median(each[MINIGRAD] / each[name] for each in rounds)
                       for name in works if MINIGRAD in works}, "failed": failed}


def copy_bandwidth(elements: int) -> float:
    """Bytes read and written in a second by a copy of so many float32."""
    import cupy

    source = cupy.ones(elements, dtype=np.float32)
    target = cupy.empty_like(source)

    def copy() -> None:
        target[...] = source

    copy()
    return float(2 * source.nbytes / statistics.median(host_seconds(copy) for _ in range(ROUNDS)))


# ------------------------------------------------------------------ what is measured


def normalization(shape: tuple[int, ...], kind: str) -> Found:
    """Forward and backward of one normalization in training, float32."""
    rng = np.random.default_rng(0)
    channels = shape[1]
    x, g = (Tensor(rng.standard_normal(shape, dtype=np.float32), device="cuda") for _ in range(2))
    w, b = (Tensor(np.full(channels, v, np.float32), True, device="cuda") for v in (1, 0))
    x.requires_grad_()

    def run() -> None:
        y = ops.batch_norm(x, w, b)[0] if kind == "batch" else ops.layer_norm(x, (channels,), w, b)
        minigrad.grad(y, (x, w, b), g)

    def torch_run() -> Call:
        torch = _torch()
        tx, tw, tb = (torch.from_dlpack(t.data).requires_grad_() for t in (x, w, b))
        tg = torch.from_dlpack(g.data)

        def run() -> None:
            y = (torch.nn.functional.batch_norm(tx, None, None, tw, tb, True) if kind == "batch" else
                 torch.nn.functional.layer_norm(tx, (channels,), tw, tb))
            torch.autograd.grad(y, (tx, tw, tb), tg)

        return run

    found = compare({MINIGRAD: lambda: run, REPLAY: lambda: cuda.replay(run), **_peers(torch_run)})
    # The least that must move: forward reads x and writes y, backward reads x and its gradient and writes one.
    found["GB_per_s"] = {name: 5 * x.data.nbytes / (ms * 1e-3) / 1e9 for name, ms in found["ms"].items()}
    return found


def step(build: Callable[[str], layers.Module], build_torch: Callable[[Any], Any], batch: int) -> Found:
    """A whole training step: forward, loss, backward, SGD with momentum."""
    rng = np.random.default_rng(0)
    images, labels = rng.random((batch, 1, 28, 28), dtype=np.float32), rng.integers(0, 10, batch)
    x, t = Tensor(images, device="cuda"), Tensor(labels, device="cuda")

    def ours() -> Callable[..., Any]:
        model = build("batch").to("cuda")
        optimizer = optim.SGD(model.parameters(), lr=0.01, momentum=0.9)

        def step(x: Any, t: Any) -> Any:
            loss = F.cross_entropy(model(x), t)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            return loss

        return step

    def theirs() -> Call:
        torch = _torch()
        model = build_torch(torch.nn).cuda()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
        tx, tt = torch.tensor(images).cuda(), torch.tensor(labels).cuda()

        def step() -> None:
            loss = torch.nn.functional.cross_entropy(model(tx), tt)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()

        return step

    return compare({MINIGRAD: lambda: functools.partial(ours(), x, t),
                    REPLAY: lambda: functools.partial(cuda.replay(ours()), x, t), **_peers(theirs)})


def _torch() -> Any:
    import torch

    if not torch.cuda.is_available():
        raise RuntimeError("this PyTorch finds no GPU")
    return torch


def _peers(make: Callable[[], Call]) -> dict[str, Callable[[], Call]]:
    """The same work by PyTorch, plain, compiled and as a CUDA graph; none where it is not installed."""
    try:
        import torch
    except ImportError:
        return {}

    def graphed() -> Call:
        work, stream, graph = make(), torch.cuda.Stream(), torch.cuda.CUDAGraph()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                work()
        torch.cuda.current_stream().wait_stream(stream)
        with torch.cuda.graph(graph):
            work()
        return graph.replay  # type: ignore[no-any-return]

    return dict(zip(PEERS, (make, lambda: torch.compile(make()), graphed)))


def torch_mlp(n: Any) -> Any:
    """The paper's network in PyTorch."""
    stack: list[Any] = [n.Flatten()]
    widths = (784, *train_mlp.WIDTHS)
    for wide, narrow in itertools.pairwise(widths):
        stack += [n.Linear(wide, narrow, bias=False), n.BatchNorm1d(narrow), n.Sigmoid()]
    return n.Sequential(*stack, n.Linear(widths[-1], 10))


def torch_cnn(n: Any) -> Any:
    """The convolutional network of the examples in PyTorch."""
    stack: list[Any] = []
    channels, side = (1, *train_cnn.CHANNELS), 28
    for before, after in itertools.pairwise(channels):
        stack += [n.Conv2d(before, after, 3, padding=1, bias=False), n.BatchNorm2d(after), n.ReLU(), n.MaxPool2d(2)]
        side //= 2
    return n.Sequential(*stack, n.Flatten(), n.Linear(channels[-1] * side * side, 10))


def tests(seconds: float) -> Found:
    """Run the tests that need a GPU, in several processes: whether all passed, the numbers of outcomes, what failed.

    Most of their time goes into compiling kernels, each on one core. After `seconds` no test is begun, which counts as
    a failure; a process that has not ended half a minute later is ended.
    """
    cores = os.cpu_count() or 1
    count = max(1, min(PROCESSES, cores // 2))
    # With one seed of hashes, whatever tests are made from comes in one order in all processes.
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), str(cores // count))
    environment = {**os.environ, "PYTHONHASHSEED": "0", **threads}
    start, build = time.monotonic(), ROOT / "build"
    build.mkdir(exist_ok=True)
    logs = [build / f"gpu-check-tests-{part}.log" for part in range(1, count + 1)]
    running = []
    for part, log in enumerate(logs, start=1):
        command = [sys.executable, "-m", "pytest", "-q", "--tb=short", "-m", "gpu", "-p", "no:cacheprovider", "-c",
                   str(ROOT / "pyproject.toml"), str(ROOT / "tests" / "gpu"), f"--part={part}/{count}",
                   f"--stop-after={seconds}"]
        with log.open("w", encoding="utf-8") as out:
            # Not in the checkout, whose folder minigrad/ would hide the installed package.
            running.append(subprocess.Popen(command, cwd=build, stdout=out, stderr=subprocess.STDOUT, env=environment))
    good, outcomes, failures = True, collections.Counter[str](), []
    for process, log in zip(running, logs):
        try:
            status: Any = process.wait(max(0.1, start + seconds + 30 - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            status = "killed: it did not end in time"
        text = log.read_text(encoding="utf-8", errors="replace").strip()
        print(text, flush=True)
        good = good and status == 0
        lines = text.splitlines() or [""]
        outcomes.update({word: int(number) for number, word in re.findall(OUTCOMES, lines[-1])})
        failures += [line for line in lines if line.startswith(("FAILED ", "ERROR "))]
        if status not in (0, 1):
            failures.append(f"{log.name}, status {status}: {lines[-1]}")
        if "no time was left" in text:
            failures.append(f"{log.name}: no time was left for the rest of its tests")
    said = ", ".join(f"{number} {word}" for word, number in sorted(outcomes.items())) or "no test has ended"
    return {"passed": good and outcomes["passed"] > 0, "failures": failures,
            "said": f"{said} in {time.monotonic() - start:.0f} s by {count} processes"}


# ------------------------------------------------------------------ all of it, whatever fails


class Check:
    """What was found so far, and how much time is left."""

    def __init__(self, seconds: float) -> None:
        self.deadline = time.monotonic() + seconds
        self.found: Found = {"measured": {}, "failed": {}}

    def left(self) -> float:
        """Seconds until nothing new is begun."""
        return self.deadline - time.monotonic()

    def part(self, name: str, work: Call) -> Any:
        """Do one part; if it fails, note it and go on."""
        if self.left() <= 0:
            self.found["failed"][name] = "not begun: no time was left"
            return None
        print(f"gpu-check: {name}", flush=True)
        try:
            return work()
        except Exception as error:  # noqa: BLE001 - whatever fails is to be in the report, beside what does not
            traceback.print_exc()
            self.found["failed"][name] = f"{type(error).__name__}: {' '.join(str(error).split())[:500]}"
            return None

    def measure(self, name: str, work: Callable[[], Found]) -> None:
        """A part that compares; a contestant of minigrad's that has failed makes it a failure."""
        found = self.part(name, work)
        if found is not None:
            self.found["measured"][name] = found
            for who in {MINIGRAD, REPLAY} & set(found["failed"]):
                self.found["failed"][f"{name}, {who}"] = found["failed"][who]


def check(parts: list[str], seconds: float, small: bool = False) -> Found:
    """Do the parts, and describe where."""
    import cupy

    run = Check(seconds)
    found = run.found
    properties = run.part("properties", lambda: cupy.cuda.runtime.getDeviceProperties(0)) or {"name": b"unknown GPU"}
    found.update(date=dt.date.today().isoformat(), gpu=properties["name"].decode(), cupy=cupy.__version__,
                 torch=_torch_version(), environment=run.part("environment", describe_environment))
    found["tests"] = {"passed": True, "said": "not run"}
    if "tests" in parts:
        found["tests"] = run.part("tests", lambda: tests(max(30.0, 0.55 * seconds))) or {
            "passed": False, "said": found["failed"].get("tests", "")}
    if "bandwidth" in parts:
        found["copy_GB_per_s"] = run.part("copy", lambda: copy_bandwidth(2**10 if small else 2**28) / 1e9)
    if "normalization" in parts:
        for kind, layer, shape in (("batch", "BatchNorm2d", (4, 3, 5, 5) if small else (64, 256, 56, 56)),
                                   ("layer", "LayerNorm", (8, 6) if small else (8192, 4096))):
            run.measure(f"{layer} {'×'.join(map(str, shape))}, forward + backward",
                        functools.partial(normalization, shape, kind))
    if "steps" in parts:
        for name, build, peer, batch in (
                ("training step, MLP 784-100-100-100-10", train_mlp.build, torch_mlp, 6 if small else 60),
                ("training step, CNN 16-32-64", train_cnn.build, torch_cnn, 4 if small else 64)):
            run.measure(f"{name}, batch {batch}", functools.partial(step, build, peer, batch))
    memory = run.part("memory", cuda.memory_statistics)
    found["memory_held_MB"] = None if memory is None else memory.held / 1e6
    found["seconds"] = round(seconds - run.left(), 1)
    return found


def _torch_version() -> str | None:
    try:
        import torch
    except ImportError:
        return None
    return str(torch.__version__)


def report(found: Found) -> str:
    """The report as Markdown."""
    copy = found.get("copy_GB_per_s")
    names = [MINIGRAD, REPLAY, *PEERS]
    times = [(name, *(each["ms"].get(who) for who in names)) for name, each in found["measured"].items()]
    ratios = [(name, *(each["ratios"].get(who) for who in names[1:])) for name, each in found["measured"].items()]
    widths = [(name, *(each["GB_per_s"].get(who) for who in names),
               None if not copy or MINIGRAD not in each["GB_per_s"] else f"{each['GB_per_s'][MINIGRAD] / copy:.0%}")
              for name, each in found["measured"].items() if "GB_per_s" in each]
    said = found["tests"]["said"]
    copying = f"{copy:,.0f} GB/s" if copy else "an unknown number of bytes"
    about = (f"CuPy {found['cupy']}, PyTorch {found['torch'] or 'not installed'}, float32. Tests: {said}\n"
             f"Copying moves {copying}. Medians of {ROUNDS} rounds in turn, by the wall clock; the whole check took "
             f"{found['seconds']:.0f} s.")
    text = [f"# {found['gpu']}, {found['date']}", "", about, ""]
    for title, columns, rows in (
            ("Milliseconds", ("work", *names), times),
            ("Time of minigrad by the others' (below 1: minigrad is faster)", ("work", *names[1:]), ratios),
            ("GB/s on the fewest bytes", ("work", *names, "minigrad of copying"), widths)):
        if rows:
            text += [f"## {title}", "", "```", Table(columns, rows).text(), "```", ""]
    failures = [f"- {name}: {why}" for name, why in found["failed"].items()]
    failed_tests = found["tests"].get("failures", [])
    failures += [f"- {line[:300]}" for line in failed_tests[:SHOWN]]
    failures += [f"- and {len(failed_tests) - SHOWN} tests more"] * (len(failed_tests) > SHOWN)
    failures += [f"- {work}, {who} (left out): {why}" for work, each in found["measured"].items()
                 for who, why in each["failed"].items() if who in PEERS]
    return "\n".join([*text, *(["## What failed", "", *failures, ""] if failures else [])])


def write(found: Found, folder: Path) -> Path:
    """The report as Markdown and JSON; the path without its ending."""
    words = [word for word in found["gpu"].lower().split() if word not in ("nvidia", "tesla", "geforce")]
    name = "".join(c if c.isalnum() else "-" for c in (words or ["unknown"])[0])
    base = folder / f"gpu-{name}-{found['date']}"
    folder.mkdir(parents=True, exist_ok=True)
    base.with_suffix(".md").write_text(report(found), encoding="utf-8")
    base.with_suffix(".json").write_text(json.dumps(_plain(found), indent=2, allow_nan=False) + "\n", encoding="utf-8")
    return base


def _plain(x: Any) -> Any:
    """For JSON, which has no infinity."""
    if isinstance(x, dict):
        return {key: _plain(value) for key, value in x.items()}
    return None if isinstance(x, float) and not math.isfinite(x) else x


def succeeded(found: Found) -> bool:
    """Whether every part that was asked for was done, and the tests passed."""
    return not found["failed"] and found["tests"]["passed"]


def main(arguments: list[str] | None = None) -> int:
    """Test, measure, write; the exit status is 1 if anything of minigrad's failed."""
    parser = argparse.ArgumentParser("gpu-check", description=__doc__.splitlines()[0])
    parser.add_argument("--only", type=_parts, default=list(PARTS), metavar="PART,…", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--seconds", type=float, default=400.0, help="begin nothing new after this time (400)")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the report")
    parser.add_argument("--small", action="store_true", help="tiny shapes: to see that it runs, not to measure")
    given = parser.parse_args(arguments)
    problem = cuda_problem()
    if problem:
        print(f"gpu-check: {problem}")
        return 1
    found = check(given.only, given.seconds, given.small)
    print(report(found))
    print(f"gpu-check: written to {write(found, given.out).name}.md and .json")
    return 0 if succeeded(found) else 1


def _parts(text: str) -> list[str]:
    names = text.split(",")
    wrong = [name for name in names if name not in PARTS]
    if wrong:
        raise argparse.ArgumentTypeError(f"{', '.join(wrong)}: wanted some of {', '.join(PARTS)}")
    return names


if __name__ == "__main__":
    sys.exit(main())
