"""The self test of `minigrad check`: a few seconds that touch every part of an installation."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

import minigrad
import minigrad.functional as F
from minigrad import Tensor, io, layers, ops, optim
from minigrad.backend import cuda_problem
from minigrad.data import DataLoader, FashionMNIST, Subset
from minigrad.gradcheck import check_gradients

__all__ = ["parts"]


def derivatives() -> str:
    """BatchNorm's derivatives of orders 1 to 3 against finite differences, at γ = 0 in one channel."""
    rng = np.random.default_rng(0)
    x, weight, bias = rng.standard_normal((5, 3)), np.array([1.5, 0.0, -0.5]), rng.standard_normal(3)
    worst = check_gradients(lambda x, w, b: ops.batch_norm(x, w, b, 0.1)[0], [x, weight, bias], order=3)
    return "BatchNorm against finite differences, orders 1 to 3: " + ", ".join(f"{w:.0e}" for w in worst)


def training() -> str:
    """A small convolutional network learns from the data that are shipped."""
    minigrad.manual_seed(0)
    model = layers.Sequential(layers.Conv2d(1, 4, 3, stride=2), layers.BatchNorm2d(4), layers.ReLU(),
                              layers.MaxPool2d(2), layers.Flatten(), layers.Linear(4 * 36, 10))
    optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    losses = []
    for images, labels in DataLoader(Subset(FashionMNIST(), range(1280)), 64, shuffle=True, seed=0):
        loss = F.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    start, end = losses[0], sum(losses[-5:]) / 5
    if not end < 0.6 * start:
        raise ArithmeticError(f"the loss went from {start:.2f} to {end:.2f} in {len(losses)} steps; wanted below 60 %")
    return f"{len(losses)} steps of a small network: loss {start:.2f} to {end:.2f}"


def files() -> str:
    """A state survives being written and read."""
    model = layers.Sequential(layers.Linear(3, 2), layers.BatchNorm1d(2))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        io.save(model.state_dict(), path)
        state = io.load(path)
    for name, entry in model.state_dict().items():
        if not np.array_equal(entry.numpy(), state[name]):
            raise ArithmeticError(f"{name} was read as {state[name]}, written as {entry.numpy()}")
    model.load_state_dict(state)
    return f"{len(state)} arrays written, read and loaded"


def gpu() -> str:
    """The same numbers on a GPU, where there is one."""
    problem = cuda_problem()
    if problem:
        return f"no GPU: {problem}"
    x = np.random.default_rng(0).standard_normal((64, 32)).astype(np.float32)
    here, there = (ops.batch_norm(Tensor(x, device=device))[0].numpy() for device in ("cpu", "cuda"))
    worst = float(np.abs(here - there).max())
    if not worst < 1e-5:
        raise ArithmeticError(f"BatchNorm differs by {worst:.1e} between CPU and GPU; wanted below 1e-5")
    return f"BatchNorm on the GPU within {worst:.0e} of the CPU"


def parts() -> Iterator[tuple[str, Callable[[], str]]]:
    """The parts of the self test: a name, and a function that returns what it found or raises."""
    for part in (derivatives, training, files, gpu):
        yield part.__name__, part
