"""How exact are derivatives of normalizations? Orders 1 to 4 and nested jvp, here and in PyTorch if it is there.

Run it with ``python -m minigrad.examples.exactness --torch``.

Every layer is compared, in float64, with the same formula written out of elementary operations of the same framework:
the largest |difference| ÷ the largest |reference| of each order. Order n differentiates ⟨u, order n − 1⟩ with a
random u. Prints a Markdown table of what it measured with the versions that are installed, and nothing else.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

import minigrad
from minigrad import Tensor, functional, ops

ORDERS = 4
EPS = 0.05


class Member(NamedTuple):
    """A normalization, the same out of elementary operations, and the shapes of its arguments.

    Both functions take the framework's module of functions, then x, γ and β.
    """

    name: str
    fused: Callable[..., Any]
    elementary: Callable[..., Any]
    x: tuple[int, ...]
    parameter: tuple[int, ...]


def _elementary(axes: tuple[int, ...], shape: tuple[int, ...], centred: bool = True) -> Callable[..., Any]:
    """(x − ⟨x⟩) / √(⟨(x − ⟨x⟩)²⟩ + ε)·γ + β in means, products and a root."""
    def function(f: Any, x: Any, w: Any, b: Any) -> Any:
        d = x - f.mean(x, axes) if centred else x
        y = d / f.sqrt(f.mean(d * d, axes) + EPS)
        return y * w.reshape(shape) + b.reshape(shape)

    return function


def _grouped(f: Any, x: Any, w: Any, b: Any) -> Any:
    view = x.reshape((x.shape[0], 2, -1, *x.shape[2:]))
    d = view - f.mean(view, (2, 3))
    y = (d / f.sqrt(f.mean(d * d, (2, 3)) + EPS)).reshape(x.shape)
    return y * w.reshape((1, -1, 1)) + b.reshape((1, -1, 1))


def _evaluated(f: Any, x: Any, w: Any, b: Any) -> Any:
    """The running mean 0.3 and variance 2 in every channel."""
    return (x - 0.3) / (2 + EPS) ** 0.5 * w.reshape((1, -1, 1)) + b.reshape((1, -1, 1))


def _local_response(f: Any, x: Any, w: Any, b: Any) -> Any:
    """The mean over three channels as a matrix of thirds."""
    window = f.tensor((np.eye(4) + np.eye(4, k=1) + np.eye(4, k=-1)) / 3).detach()
    return x / (2.0 * (window @ (x * x)) + 1.5) ** 0.75 * w.reshape((1, -1, 1)) + b.reshape((1, -1, 1))


def _batch(training: bool) -> Callable[..., Any]:
    def function(f: Any, x: Any, w: Any, b: Any) -> Any:
        mean, variance = f.full(x.shape[1], 0.3), f.full(x.shape[1], 2.0)
        return f.functional.batch_norm(x, mean, variance, w, b, training, eps=EPS)

    return function


MEMBERS = (
    Member("BatchNorm, training", _batch(True), _elementary((0, 2), (1, -1, 1)), (3, 2, 2), (2,)),
    Member("BatchNorm, evaluation", _batch(False), _evaluated, (3, 2, 2), (2,)),
    Member("LayerNorm", lambda f, x, w, b: f.functional.layer_norm(x, (3,), w, b, EPS), _elementary((1,), (3,)),
           (4, 3), (3,)),
    Member("GroupNorm", lambda f, x, w, b: f.functional.group_norm(x, 2, w, b, EPS), _grouped, (2, 4, 2), (4,)),
    Member("InstanceNorm", lambda f, x, w, b: f.functional.instance_norm(x, None, None, w, b, eps=EPS),
           _elementary((2,), (1, -1, 1)), (2, 2, 3), (2,)),
    Member("RMSNorm", lambda f, x, w, b: f.functional.rms_norm(x, (3,), w, EPS) + b,
           _elementary((1,), (3,), centred=False), (4, 3), (3,)),
    Member("LocalResponseNorm", lambda f, x, w, b: f.functional.local_response_norm(x, 3, 2.0, 0.75, 1.5)
           * w.reshape((1, -1, 1)) + b.reshape((1, -1, 1)), _local_response, (2, 4, 2), (4,)),
)


class Minigrad:
    """What the table needs of minigrad."""

    name = f"minigrad {minigrad.__version__}"
    functional = functional

    def tensor(self, array: np.ndarray) -> Any:
        return Tensor(array, requires_grad=True)

    def full(self, length: int, fill: float) -> Any:
        return Tensor(np.full(length, fill))

    def mean(self, x: Any, axes: tuple[int, ...]) -> Any:
        return ops.mean(x, axes, keepdims=True)

    def sqrt(self, x: Any) -> Any:
        return ops.sqrt(x)

    def grad(self, ys: Any, xs: Any, us: Any) -> Any:
        return minigrad.grad(ys, xs, [Tensor(u) for u in us], create_graph=True, allow_unused=True)

    def nested(self, function: Callable[[Any], Any], x: np.ndarray, v: np.ndarray, u: np.ndarray) -> np.ndarray:
        """The second derivative along v and u by a jvp of a jvp."""
        def inner(z: Any) -> Any:
            return minigrad.jvp(function, z, Tensor(v), create_graph=True)[1]

        return np.asarray(minigrad.jvp(inner, Tensor(x), Tensor(u))[1])


class Torch:
    """What the table needs of PyTorch."""

    def __init__(self) -> None:
        import torch

        self.torch, self.functional = torch, torch.nn.functional
        self.name = f"PyTorch {torch.__version__}"

    def tensor(self, array: np.ndarray) -> Any:
        return self.torch.tensor(array, requires_grad=True)

    def full(self, length: int, fill: float) -> Any:
        return self.torch.full((length,), fill, dtype=self.torch.float64)

    def mean(self, x: Any, axes: tuple[int, ...]) -> Any:
        return x.mean(axes, keepdim=True)

    def sqrt(self, x: Any) -> Any:
        return x.sqrt()

    def grad(self, ys: Any, xs: Any, us: Any) -> Any:
        us = [self.torch.tensor(u) for u in us]
        return self.torch.autograd.grad(ys, xs, us, create_graph=True, allow_unused=True)

    def nested(self, function: Callable[[Any], Any], x: np.ndarray, v: np.ndarray, u: np.ndarray) -> np.ndarray:
        """The second derivative along v and u by `torch.func.jvp` of `torch.func.jvp`."""
        jvp, tensor = self.torch.func.jvp, self.torch.tensor

        def inner(z: Any) -> Any:
            return jvp(function, (z,), (tensor(v),))[1]

        return np.asarray(jvp(inner, (tensor(x),), (tensor(u),))[1].detach())


def arguments(member: Member, seed: int) -> list[np.ndarray]:
    """x, γ and β, random."""
    rng = np.random.default_rng(seed)
    return [rng.normal(size=member.x) * 1.5 + 0.5, rng.normal(size=member.parameter), rng.normal(size=member.parameter)]


def levels(f: Any, function: Callable[..., Any], arrays: list[np.ndarray], seed: int) -> list[list[np.ndarray]]:
    """The gradients of x, γ and β of every order, as arrays."""
    rng = np.random.default_rng(seed)
    leaves = [f.tensor(a) for a in arrays]
    level, found = [function(f, *leaves)], []
    for _ in range(ORDERS):
        pairs = [(y, rng.normal(size=tuple(y.shape))) for y in level]
        live = [(y, u) for y, u in pairs if y.requires_grad]
        grads = f.grad([y for y, _ in live], leaves, [u for _, u in live]) if live else [None] * 3
        level = [x * 0 if g is None else g for x, g in zip(leaves, grads)]
        found.append([np.asarray(g.detach()) for g in level])
    return found


def measured(f: Any, member: Member, seed: int = 0) -> list[str]:
    """The relative differences of orders 1 to 4 and of the nested jvp, as texts; an error by its name."""
    arrays = arguments(member, seed)
    texts = []
    try:
        pairs = zip(levels(f, member.fused, arrays, seed + 1), levels(f, member.elementary, arrays, seed + 1))
        texts = [_text(found, wanted) for found, wanted in pairs]
    except Exception as error:  # noqa: BLE001 - whatever another framework raises is a result here
        texts = [type(error).__name__] * ORDERS
    rng = np.random.default_rng(seed + 2)
    v, u = rng.normal(size=member.x), rng.normal(size=member.x)
    try:
        w, b = (f.tensor(a).detach() for a in arrays[1:])
        found, wanted = (f.nested(lambda x, g=g: g(f, x, w, b), arrays[0], v, u)
                         for g in (member.fused, member.elementary))
        texts.append(_text([found], [wanted]))
    except Exception as error:  # noqa: BLE001
        texts.append(type(error).__name__)
    return texts


def _text(found: Sequence[np.ndarray], wanted: Sequence[np.ndarray]) -> str:
    """max |difference| ÷ max |reference| over all gradients of one order; "0" where both are 0 but for rounding."""
    scale = max(np.abs(w).max() for w in wanted)
    difference = max(np.abs(a - w).max() for a, w in zip(found, wanted))
    if scale < 1e-12:
        return "0" if difference < 1e-12 else f"{difference:.0e} (absolute)"
    ratio = difference / scale
    return f"**{ratio:.0%}**" if ratio >= 0.005 else f"{ratio:.0e}"


def table(frameworks: Sequence[Any]) -> str:
    """The Markdown table."""
    heads = ["", "framework", *(f"order {n}" for n in range(1, ORDERS + 1)), "jvp of jvp"]
    rows = [heads, ["---"] * len(heads)]
    rows += [[member.name, f.name, *measured(f, member)] for member in MEMBERS for f in frameworks]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def main(given: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--torch", action="store_true", help="measure the installed PyTorch, too")
    parser.add_argument("--tiny", action="store_true", help="accepted like by all examples; this one is always quick")
    chosen = parser.parse_args(given)
    print(table([Minigrad(), *([Torch()] if chosen.torch else [])]))


if __name__ == "__main__":
    main()
