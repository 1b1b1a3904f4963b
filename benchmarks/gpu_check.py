"""Check and measure minigrad on this machine's GPU, and write what was found to benchmarks/results/gpu-*.md and .json.

Needs what is already there: CuPy, NumPy, safetensors and pytest; PyTorch, where installed, is measured beside it.
    make gpu-check PYTHON=python3
"""

from __future__ import annotations

import datetime as dt
import json
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cupy
import numpy as np

import minigrad
import minigrad.functional as F
from minigrad import Tensor, layers, ops, optim
from minigrad.backend import cuda_problem
from minigrad.examples import train_cnn, train_mlp
from minigrad.run import Table, describe_environment

try:
    import torch
except ImportError:
    torch = None  # type: ignore[assignment]

ROOT = Path(__file__).resolve().parent.parent
ROUNDS, CALLS = 15, 5


def seconds(work: Callable[[], Any]) -> float:
    """Seconds of one call on the GPU, over a few calls between two events."""
    start, stop = cupy.cuda.Event(), cupy.cuda.Event()
    start.record()
    for _ in range(CALLS):
        work()
    stop.record()
    stop.synchronize()
    return float(cupy.cuda.get_elapsed_time(start, stop)) / CALLS / 1e3


def host_seconds(work: Callable[[], Any]) -> float:
    """Seconds of one call by the wall clock, with the GPU's work finished at both ends: for steps bound by the host."""
    import time

    cupy.cuda.Device().synchronize()
    start = time.perf_counter()
    for _ in range(CALLS):
        work()
    cupy.cuda.Device().synchronize()
    return (time.perf_counter() - start) / CALLS


def compare(ours: Callable[[], Any], theirs: Callable[[], Any] | None) -> dict[str, float | None]:
    """Median times, and the median of the ratios within rounds; the two take turns."""
    for work in filter(None, (ours, theirs)):
        for _ in range(3):
            work()
    rounds = [(host_seconds(ours), host_seconds(theirs) if theirs else None) for _ in range(ROUNDS)]
    return {"minigrad_ms": 1e3 * statistics.median(a for a, _ in rounds),
            "torch_ms": 1e3 * statistics.median(b for _, b in rounds) if theirs else None,
            "ratio": statistics.median(a / b for a, b in rounds) if theirs else None}


def copy_bandwidth() -> float:
    """Bytes read and written in a second by a copy of 1 GiB."""
    source = cupy.ones(2**28, cupy.float32)
    target = cupy.empty_like(source)
    cupy.copyto(target, source)
    return 2 * source.nbytes / statistics.median(seconds(lambda: cupy.copyto(target, source)) for _ in range(ROUNDS))


def normalization(shape: tuple[int, ...], kind: str) -> dict[str, Any]:
    """Forward and backward of one normalization in training, float32."""
    rng = np.random.default_rng(0)
    channels = shape[1]
    x, g = (Tensor(rng.standard_normal(shape, dtype=np.float32), device="cuda") for _ in range(2))
    x.requires_grad_()
    w, b = (Tensor(np.full(channels, v, np.float32), True, device="cuda") for v in (1, 0))

    def ours() -> Any:
        y = ops.batch_norm(x, w, b)[0] if kind == "batch" else ops.layer_norm(x, (channels,), w, b)
        return minigrad.grad(y, (x, w, b), g)

    theirs = None
    if torch is not None:
        tx, tw, tb = (torch.from_dlpack(t.data).requires_grad_() for t in (x, w, b))
        tg = torch.from_dlpack(g.data)

        def theirs() -> Any:
            y = (torch.nn.functional.batch_norm(tx, None, None, tw, tb, True) if kind == "batch" else
                 torch.nn.functional.layer_norm(tx, (channels,), tw, tb))
            return torch.autograd.grad(y, (tx, tw, tb), tg)

    found: dict[str, Any] = compare(ours, theirs)
    # The least that must move: forward reads x and writes y, backward reads x and its gradient and writes one.
    found["minigrad_GB_per_s"] = 5 * x.data.nbytes / (found["minigrad_ms"] * 1e-3) / 1e9
    return found


def torch_mlp() -> Any:
    """The paper's network in PyTorch."""
    n = torch.nn
    stack: list[Any] = [n.Flatten()]
    for wide, narrow in zip(train_mlp.WIDTHS, train_mlp.WIDTHS[1:]):
        stack += [n.Linear(wide, narrow, bias=False), n.BatchNorm1d(narrow), n.Sigmoid()]
    return n.Sequential(*stack, n.Linear(100, 10))


def torch_cnn() -> Any:
    """The convolutional network of the examples in PyTorch."""
    n = torch.nn
    stack: list[Any] = []
    for before, after in zip(train_cnn.CHANNELS, train_cnn.CHANNELS[1:]):
        stack += [n.Conv2d(before, after, 3, padding=1, bias=False), n.BatchNorm2d(after), n.ReLU(), n.MaxPool2d(2)]
    return n.Sequential(*stack, n.Flatten(), n.Linear(64 * 9, 10))


def step(build: Callable[[str], layers.Module], build_torch: Callable[[], Any], batch: int) -> dict[str, Any]:
    """A whole training step: forward, loss, backward, SGD with momentum."""
    rng = np.random.default_rng(0)
    images, labels = rng.random((batch, 1, 28, 28), dtype=np.float32), rng.integers(0, 10, batch)
    model = build("batch").to("cuda")
    optimizer = optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    x, t = Tensor(images, device="cuda"), Tensor(labels, device="cuda")

    def ours() -> None:
        loss = F.cross_entropy(model(x), t)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    theirs = None
    if torch is not None:
        other = build_torch().cuda()
        sgd = torch.optim.SGD(other.parameters(), lr=0.01, momentum=0.9)
        tx, tt = torch.tensor(images).cuda(), torch.tensor(labels).cuda()

        def theirs() -> None:
            loss = torch.nn.functional.cross_entropy(other(tx), tt)
            sgd.zero_grad()
            loss.backward()
            sgd.step()

    return compare(ours, theirs)


def tests() -> dict[str, Any]:
    """Run the tests that need a GPU; whether they passed, and their closing line."""
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", "-c",
               str(ROOT / "pyproject.toml"), str(ROOT / "tests" / "gpu")]
    # Not in the checkout, whose folder minigrad/ would hide the installed package.
    done = subprocess.run(command, cwd=ROOT / "build", capture_output=True, text=True, check=False)
    print(done.stdout, done.stderr, sep="\n", flush=True)
    return {"passed": done.returncode == 0, "said": done.stdout.strip().splitlines()[-1]}


def main() -> int:
    """Test, measure, write; the exit status is 1 if a test failed."""
    problem = cuda_problem()
    if problem:
        print(f"gpu-check: {problem}")
        return 1
    properties = cupy.cuda.runtime.getDeviceProperties(0)
    found: dict[str, Any] = {
        "date": dt.date.today().isoformat(), "gpu": properties["name"].decode(), "cupy": cupy.__version__,
        "torch": None if torch is None else torch.__version__, "environment": describe_environment(),
        "tests": tests(), "copy_GB_per_s": copy_bandwidth() / 1e9,
        "measured": {
            "BatchNorm2d 64×256×56×56, forward + backward": normalization((64, 256, 56, 56), "batch"),
            "LayerNorm 8192×4096, forward + backward": normalization((8192, 4096), "layer"),
            "training step, MLP 784-100-100-100-10, batch 60": step(train_mlp.build, torch_mlp, 60),
            "training step, CNN 16-32-64, batch 64": step(train_cnn.build, torch_cnn, 64),
        }}
    write(found)
    return 0 if found["tests"]["passed"] else 1


def write(found: dict[str, Any]) -> None:
    """The report, as Markdown and JSON."""
    rows = [(name, each["minigrad_ms"], each["torch_ms"], each["ratio"], each.get("minigrad_GB_per_s"))
            for name, each in found["measured"].items()]
    table = Table(("work", "minigrad ms", "PyTorch eager ms", "ratio", "GB/s on the fewest bytes"), rows).text()
    name = found["gpu"].split()[1].lower() if " " in found["gpu"] else found["gpu"].lower()
    base = ROOT / "benchmarks" / "results" / f"gpu-{name}-{found['date']}"
    text = (f"# {found['gpu']}, {found['date']}\n\nCuPy {found['cupy']}, PyTorch {found['torch']}, float32. Tests: "
            f"{found['tests']['said']}\nCopying moves {found['copy_GB_per_s']:.0f} GB/s. Medians of {ROUNDS} rounds in "
            f"turn; ratios are medians within rounds, below 1 is faster than PyTorch.\n\n```\n{table}\n```\n")
    base.parent.mkdir(parents=True, exist_ok=True)
    base.with_suffix(".md").write_text(text, encoding="utf-8")
    base.with_suffix(".json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    sys.exit(main())
