"""What is measured: names, sizes and numbers, the same for every library. No library is imported here but NumPy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Work:
    """One piece of work, forward and backward.

    name : as in the tables
    kind : which function of a library builds it: "norm", "conv", "step" or "chain"
    detail : its sizes
    """

    name: str
    kind: str
    detail: tuple[Any, ...]


def _norms() -> list[Work]:
    listed = [("BatchNorm2d", (64, 64, 32, 32)), ("BatchNorm2d", (32, 256, 14, 14)), ("BatchNorm2d", (256, 16, 28, 28)),
              ("BatchNorm1d", (60, 100)), ("BatchNorm1d", (256, 512)), ("LayerNorm", (64, 128, 512)),
              ("LayerNorm", (32, 1024)), ("GroupNorm", (32, 64, 28, 28)), ("InstanceNorm2d", (32, 64, 28, 28)),
              ("RMSNorm", (64, 128, 512))]
    return [Work(f"{layer} {shape}", "norm", (layer, shape)) for layer, shape in listed]


def _convolutions() -> list[Work]:
    listed = [(32, 32, 64, 28), (32, 64, 64, 14), (64, 1, 16, 28)]
    return [Work(f"Conv2d 3×3, {c}→{o} @{side}, batch {n}", "conv", (n, c, o, side)) for n, c, o, side in listed]


#: Networks by name: input shape, and layers as (kind, sizes).
NETWORKS: dict[str, tuple[tuple[int, ...], list[tuple[Any, ...]]]] = {
    "paper's MLP": ((60, 784), [layer for wide, narrow in ((784, 100), (100, 100), (100, 100)) for layer in
                                (("linear", wide, narrow), ("norm1", narrow), ("sigmoid",))] + [("linear", 100, 10)]),
    "MLP 784-512-512-10": ((128, 784), [layer for wide, narrow in ((784, 512), (512, 512)) for layer in
                                        (("linear", wide, narrow), ("norm1", narrow), ("relu",))]
                           + [("linear", 512, 10)]),
    "CNN 16-32-64": ((64, 1, 28, 28), [layer for a, b in ((1, 16), (16, 32), (32, 64)) for layer in
                                       (("conv", a, b, 1), ("norm2", b), ("relu",), ("pool",))]
                     + [("flatten",), ("linear", 576, 10)]),
    "six-convolution CNN": ((32, 3, 32, 32), [layer for a, b, stride in (
        (3, 32, 1), (32, 32, 1), (32, 32, 1), (32, 64, 2), (64, 64, 1), (64, 64, 1)) for layer in
        (("conv", a, b, stride), ("norm2", b), ("relu",))] + [("mean",), ("linear", 64, 10)]),
}


def mlp(width: int, depth: int, batch: int) -> tuple[tuple[int, ...], list[tuple[Any, ...]]]:
    """A network for the measurements of growth: `depth` times Linear, BatchNorm, ReLU of `width`."""
    stack: list[tuple[Any, ...]] = []
    for _ in range(depth):
        stack += [("linear", width, width), ("norm1", width), ("relu",)]
    return (batch, width), [*stack, ("linear", width, 10)]


def _steps() -> list[Work]:
    return [Work(f"step of the {name}", "step", (name,)) for name in NETWORKS]


def _chains() -> list[Work]:
    return [Work(f"1000 times {what} on one number", "chain", (what,)) for what in ("add", "mul")]


def _growth() -> list[Work]:
    sizes = ([("batch", 128, 4, n) for n in (16, 64, 256, 1024)] + [("width", n, 4, 64) for n in (32, 128, 512)]
             + [("depth", 64, n, 64) for n in (2, 6, 16)])
    return [Work(f"growth with {of}: width {width}, depth {depth}, batch {batch}", "growth", (of, width, depth, batch))
            for of, width, depth, batch in sizes]


WORKS = {work.name: work for work in (*_norms(), *_convolutions(), *_steps(), *_chains(), *_growth())}


def network_of(work: Work) -> tuple[tuple[int, ...], list[tuple[Any, ...]]]:
    """Input shape and layers of a "step" or "growth"."""
    return NETWORKS[work.detail[0]] if work.kind == "step" else mlp(*work.detail[1:])


def numbers(name: str, *shape: int) -> np.ndarray:
    """Normal numbers in float32, the same for every library: seeded by their name."""
    seed = sum(ord(c) * 31**i for i, c in enumerate(name)) % 2**32
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def weights(layer: tuple[Any, ...], place: int) -> tuple[np.ndarray, np.ndarray]:
    """Weight and bias of a "linear" (out, in) or a "conv" (out, in, 3, 3) at a place of a network."""
    shape = (layer[2], layer[1]) if layer[0] == "linear" else (layer[2], layer[1], 3, 3)
    scale = float(np.prod(shape[1:])) ** -0.5
    return numbers(f"w{place}", *shape) * np.float32(scale), numbers(f"b{place}", shape[0]) * np.float32(0.1)


def labels(count: int) -> np.ndarray:
    """Classes of a batch."""
    return np.arange(count, dtype=np.int64) * 7 % 10


MOMENTUM = 0.9


def rate_of(work: Work) -> float:
    """The learning rate of a "step" or "growth". BatchNorm and ReLU make gradients grow by about a fifth with every
    layer (Yang et al., arXiv:1902.08129): the deepest network would turn chaotic, and no two precisions would agree.
    """
    return 0.01 if work.kind == "step" else 0.01 * 0.65 ** work.detail[2]
