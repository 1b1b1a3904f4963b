"""First steps: a tensor, its graph, a gradient, the gradient of a gradient, and an operation of your own.

python examples/first_steps.py
"""

from __future__ import annotations

import argparse

import numpy as np

import minigrad
from minigrad import Op, Tensor, apply, inputs
from minigrad.backend import namespace
from minigrad.gradcheck import check_gradients
from minigrad.graph import walk


class Cube(Op):
    """y = x³;   gx = 3·gy·x²"""

    keeps = inputs(0)  # what backward needs; nothing else is held until then

    def forward(self, x):
        """The value. `x` is an array, or a Tensor when the operation is opened up."""
        return x * x * x

    def backward(self, saved, needs, gy):
        """The gradient of every input. On Tensors, the same lines record a graph of themselves."""
        (x,) = saved
        return (gy * (x * x) * 3,)


class Softsign(Op):
    """y = x / (1 + |x|);   gx = gy / (1 + |x|)²"""

    keeps = inputs(0)

    def forward(self, x):
        """`namespace` gives the functions that fit: NumPy's, CuPy's, or minigrad's own for Tensors."""
        return x / (1 + namespace(x).abs(x))

    def backward(self, saved, needs, gy):
        """One over the square of the denominator."""
        d = 1 + namespace(gy).abs(saved[0])
        return (gy / (d * d),)


def main(arguments: list[str] | None = None) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tiny", action="store_true", help="accepted like by all examples; this one is always quick")
    parser.parse_args(arguments)

    print("A tensor, and a value computed from it:")
    x = Tensor([1.0, 2.0, 3.0], requires_grad=True, name="x")
    y = (x * x + x).sum()
    print(f"  x = {x}\n  y = {y}")

    print("The graph that was recorded, in the order it ran:")
    for node in walk([y.edge]):
        print(f"  {node.op!r}")

    print("Its gradient, by running that order backwards: dy/dx = 2x + 1")
    y.backward()
    print(f"  {x.grad}")

    print("a + a: both uses of a send a gradient of 1, and they are added before anything older runs:")
    a = Tensor(5.0, requires_grad=True, name="a")
    (a + a).backward()
    print(f"  {a.grad}")

    print("A gradient of a gradient: d²(x³)/dx² = 6x")
    (first,) = minigrad.grad(apply(Cube(), x).sum(), x, create_graph=True)
    (second,) = minigrad.grad(first.sum(), x)
    print(f"  {second}")

    print("BatchNorm is one node with four outputs: y, the mean, the variance and 1/σ")
    batch = Tensor(np.random.default_rng(0).standard_normal((6, 2)), requires_grad=True)
    normalized, mean, _variance, _rstd = minigrad.ops.batch_norm(batch)
    print(f"  {normalized.node.op!r}\n  mean {mean}")

    print("Your own operations and BatchNorm against finite differences, the largest relative difference per order:")
    draw = np.random.default_rng(1).standard_normal((4, 3))
    for name, function in (("Cube", lambda t: apply(Cube(), t)), ("Softsign", lambda t: apply(Softsign(), t)),
                           ("BatchNorm", lambda t: minigrad.ops.batch_norm(t, eps=0.1)[0])):
        worst = check_gradients(function, [Tensor(draw, requires_grad=True)], order=3)
        print(f"  {name:10}" + "  ".join(f"{w:.0e}" for w in worst))


if __name__ == "__main__":
    main()
