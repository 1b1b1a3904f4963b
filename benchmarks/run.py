"""Measure layers, forward and backward, and whole training steps on the CPU: medians, in milliseconds.

make bench ARGS="--rounds 50"
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator

import numpy as np

import minigrad.functional as F
from minigrad import Tensor, layers, optim
from minigrad.examples import train_cnn, train_mlp
from minigrad.run import Table, describe_environment

Work = Callable[[], object]


def draw(*shape: int) -> Tensor:
    """Normal numbers in float32."""
    return Tensor(np.random.default_rng(0).standard_normal(shape).astype(np.float32), requires_grad=True)


def layer(module: layers.Module, x: Tensor) -> Work:
    """Forward and backward through one layer."""
    upstream = Tensor(np.ones(module(x).shape, np.float32))

    def work() -> None:
        x.grad = None
        module.zero_grad()
        module(x).backward(upstream)

    return work


def step(model: layers.Module, batch: int) -> Work:
    """One training step on images of 28×28."""
    images, labels = draw(batch, 1, 28, 28).detach(), Tensor(np.arange(batch) % 10)
    optimizer = optim.SGD(model.parameters(), lr=0.01, momentum=0.9)

    def work() -> None:
        optimizer.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        optimizer.step()

    return work


def works() -> Iterator[tuple[str, Work]]:
    """What is measured, by name."""
    yield "Linear 1024 to 1024, batch 128", layer(layers.Linear(1024, 1024), draw(128, 1024))
    yield "Conv2d 16 to 32, 3×3, batch 32 of 28×28", layer(layers.Conv2d(16, 32, 3, padding=1), draw(32, 16, 28, 28))
    yield "BatchNorm1d 1024, batch 128", layer(layers.BatchNorm1d(1024), draw(128, 1024))
    yield "BatchNorm2d 64, batch 32 of 28×28", layer(layers.BatchNorm2d(64), draw(32, 64, 28, 28))
    yield "LayerNorm 1024, batch 128", layer(layers.LayerNorm(1024), draw(128, 1024))
    yield "MaxPool2d 2, batch 32 of 28×28, 16 channels", layer(layers.MaxPool2d(2), draw(32, 16, 28, 28))
    for norm in ("none", "batch", "layer"):
        yield f"step of the MLP, {norm}, batch 60", step(train_mlp.build(norm), 60)
    for norm in ("none", "batch", "layer"):
        yield f"step of the CNN, {norm}, batch 64", step(train_cnn.build(norm), 64)


def milliseconds(work: Work, rounds: int) -> float:
    """The median time of a call, after one that does not count."""
    work()
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return 1e3 * statistics.median(times)


def main() -> None:
    """Measure all and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20, help="calls of each (default: 20)")
    rounds = parser.parse_args().rounds
    environment = describe_environment()
    said = ("minigrad", "numpy", "blas", "kernels", "cpu", "cores", "variables")
    print(", ".join(f"{name} {environment[name]}" for name in said))
    rows = [(name, milliseconds(work, rounds)) for name, work in works()]
    print(Table(("forward and backward of", "ms"), rows).text())


if __name__ == "__main__":
    main()
