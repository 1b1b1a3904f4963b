"""Autograd (HIPS): NumPy formulas and their derivatives; it has no convolution that would be fit for training."""

from __future__ import annotations

from typing import Any

import autograd
import autograd.numpy as anp
import numpy as np
from works import MOMENTUM, Work, labels, network_of, numbers, rate_of

from peers import Built, formulas

LAYERS = formulas.layers_of(anp)


def norm(work: Work) -> Built:
    """A normalization in training."""
    kind, shape = work.detail
    given = (numbers("x", *shape), *formulas.norm_parameters(work))
    upstream = numbers("gy", *shape)
    pulled = autograd.make_vjp(lambda given: formulas.normalize(anp, kind, *given))

    def call() -> Any:
        pull, y = pulled(given)
        return y, pull(upstream)

    def values() -> dict[str, Any]:
        y, (gx, *rest) = call()
        return formulas.gradients_by_name(y, gx, rest)

    return Built(call, values)


def step(work: Work) -> Built | None:
    """Forward, cross-entropy, backward and SGD with momentum; None for a network with convolutions."""
    (shape, stack), rate = network_of(work), rate_of(work)
    if not {kind for kind, *_ in stack} <= set(LAYERS):
        return None
    x, target = numbers("x", *shape), labels(shape[0])
    held = formulas.network_parameters(stack)
    speeds = [[np.zeros_like(p) for p in layer] for layer in held]
    both = autograd.value_and_grad(
        lambda held: formulas.cross_entropy(anp, formulas.forward(LAYERS, stack, held, x), target))

    def call() -> Any:
        loss, gradients = both(held)
        for layer, speed, gradient in zip(held, speeds, gradients):
            for p, v, g in zip(layer, speed, gradient):
                v *= MOMENTUM
                v += g
                p -= rate * v
        return loss

    return Built(call, lambda: {"losses": [float(call()) for _ in range(6)]})


def chain(work: Work) -> Built:
    """1000 operations on an array of one element."""
    x, other = np.ones(1, np.float32), np.full(1, 0.999, np.float32)
    add = work.detail[0] == "add"

    def chained(x: Any) -> Any:
        for _ in range(1000):
            x = x + other if add else x * other
        return x

    pulled = autograd.make_vjp(chained)

    def call() -> Any:
        pull, y = pulled(x)
        return y, pull(np.ones_like(y))

    return Built(call, lambda: dict(zip(("y", "gx"), call())))
