"""MyGrad, with its own batch normalization, convolution, pooling and losses; the other normalizations as formulas."""

from __future__ import annotations

from typing import Any

import mygrad as mg
from mygrad.nnet.activations import relu, sigmoid
from mygrad.nnet.layers import batchnorm, conv_nd, max_pool
from mygrad.nnet.losses import softmax_crossentropy
from works import MOMENTUM, Work, labels, network_of, numbers, rate_of, weights

from peers import Built, formulas

mg.turn_memory_guarding_off()  # as its documentation advises where speed counts


def _convolve(x: Any, weight: Any, bias: Any) -> Any:
    return conv_nd(x, weight, stride=1, padding=1) + bias.reshape(1, -1, 1, 1)


def _pool(x: Any) -> Any:
    """Maxima of 2×2; MyGrad's windows have to fill the image, so an odd row or column is cut off before."""
    height, width = (side // 2 * 2 for side in x.shape[2:])
    return max_pool(x if x.shape[2:] == (height, width) else x[:, :, :height, :width], (2, 2), 2)


def _batch_norm(x: Any, weight: Any, bias: Any) -> Any:
    return batchnorm(x, gamma=weight, beta=bias, eps=1e-5)


LAYERS = {**formulas.layers_of(mg), "conv": lambda x, _, p: _convolve(x, *p),
          "norm1": lambda x, _, p: _batch_norm(x, *p), "norm2": lambda x, _, p: _batch_norm(x, *p),
          "pool": lambda x, _, p: _pool(x), "relu": lambda x, _, p: relu(x),
          "sigmoid": lambda x, _, p: sigmoid(x)}


def norm(work: Work) -> Built:
    """A normalization in training."""
    kind, shape = work.detail
    held = formulas.norm_parameters(work)
    if kind.startswith("BatchNorm"):
        return _layer(_batch_norm, shape, held)
    return _layer(lambda x, *p: formulas.normalize(mg, kind, x, *p), shape, held)


def conv(work: Work) -> Built:
    """A 3×3 convolution with padding 1."""
    n, c, o, side = work.detail
    return _layer(_convolve, (n, c, side, side), weights(("conv", c, o), 0))


def _layer(function: Any, shape: tuple[int, ...], held: Any) -> Built:
    given = [mg.tensor(a) for a in (numbers("x", *shape), *held)]
    upstream = numbers("gy", *function(*given).shape)

    def call() -> Any:
        y = function(*given)
        y.backward(upstream)
        return y

    def values() -> dict[str, Any]:
        y = call()
        return formulas.gradients_by_name(y.data, given[0].grad, [p.grad for p in given[1:]])

    return Built(call, values)


def step(work: Work) -> Built | None:
    """Forward, cross-entropy, backward and SGD with momentum, written into the weights' arrays; None for a network
    with strides, for windows that do not fill the padded image are refused.
    """
    (shape, stack), rate = network_of(work), rate_of(work)
    if any(kind == "conv" and sizes[2] > 1 for kind, *sizes in stack):
        return None
    x, target = mg.tensor(numbers("x", *shape), constant=True), labels(shape[0])
    held = [[mg.tensor(p) for p in layer] for layer in formulas.network_parameters(stack)]
    speeds = [(p, 0 * p.data) for layer in held for p in layer]

    def call() -> Any:
        loss = softmax_crossentropy(formulas.forward(LAYERS, stack, held, x), target)
        loss.backward()
        for p, speed in speeds:
            speed *= MOMENTUM
            speed += p.grad
            p.data -= rate * speed
        return loss

    return Built(call, lambda: {"losses": [call().item() for _ in range(6)]})


def chain(work: Work) -> Built:
    """1000 operations on a Tensor of one element."""
    x, other = mg.tensor([1.0], dtype="float32"), mg.tensor([0.999], dtype="float32", constant=True)
    add = work.detail[0] == "add"

    def call() -> Any:
        y = x
        for _ in range(1000):
            y = y + other if add else y * other
        y.backward()
        return y

    return Built(call, lambda: {"y": call().data, "gx": x.grad})
