"""JAX: each work is one jitted function; a training step gives its weights' memory to the new ones."""

from __future__ import annotations

import os
from typing import Any

# XLA takes as many threads as the process may use processors.
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(os.environ["BENCH_THREADS"])])

import jax
import jax.numpy as jnp
from works import MOMENTUM, Work, labels, network_of, numbers, rate_of, weights

from peers import Built, formulas

jax.config.update("jax_platforms", "cpu")


def _convolve(x: Any, weight: Any, bias: Any, stride: int = 1) -> Any:
    y = jax.lax.conv_general_dilated(x, weight, (stride, stride), ((1, 1), (1, 1)),
                                     dimension_numbers=("NCHW", "OIHW", "NCHW"))
    return y + bias[:, None, None]


def _pool(x: Any) -> Any:
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 1, 2, 2), (1, 1, 2, 2), "VALID")


LAYERS = {**formulas.layers_of(jnp), "conv": lambda x, sizes, p: _convolve(x, *p, stride=sizes[2]),
          "pool": lambda x, _, p: _pool(x)}


def norm(work: Work) -> Built:
    """A normalization in training."""
    kind, shape = work.detail
    return _layer(lambda x, *p: formulas.normalize(jnp, kind, x, *p), shape, formulas.norm_parameters(work))


def conv(work: Work) -> Built:
    """A 3×3 convolution with padding 1."""
    n, c, o, side = work.detail
    return _layer(_convolve, (n, c, side, side), weights(("conv", c, o), 0))


def _layer(function: Any, shape: tuple[int, ...], held: Any) -> Built:
    given = [jnp.asarray(a) for a in (numbers("x", *shape), *held)]
    upstream = jnp.asarray(numbers("gy", *jax.eval_shape(function, *given).shape))

    @jax.jit
    def both(upstream: Any, *given: Any) -> Any:
        y, pull = jax.vjp(function, *given)
        return y, pull(upstream)

    def call() -> Any:
        return jax.block_until_ready(both(upstream, *given))

    def values() -> dict[str, Any]:
        y, (gx, *rest) = call()
        return formulas.gradients_by_name(y, gx, rest)

    return Built(call, values)


def step(work: Work) -> Built:
    """Forward, cross-entropy, backward and SGD with momentum."""
    (shape, stack), rate = network_of(work), rate_of(work)
    target = labels(shape[0])
    x = jnp.asarray(numbers("x", *shape))
    held = jax.tree.map(jnp.asarray, formulas.network_parameters(stack))
    state = [held, jax.tree.map(jnp.zeros_like, held)]

    def loss_of(held: Any, x: Any) -> Any:
        return formulas.cross_entropy(jnp, formulas.forward(LAYERS, stack, held, x), target)

    def stepped(held: Any, speed: Any, x: Any) -> Any:
        loss, gradients = jax.value_and_grad(loss_of)(held, x)
        speed = jax.tree.map(lambda v, g: MOMENTUM * v + g, speed, gradients)
        return loss, jax.tree.map(lambda p, v: p - rate * v, held, speed), speed

    compiled = jax.jit(stepped, donate_argnums=(0, 1))

    def call() -> Any:
        loss, *state[:] = jax.block_until_ready(compiled(*state, x))
        return loss

    return Built(call, lambda: {"losses": [float(call()) for _ in range(6)]})
