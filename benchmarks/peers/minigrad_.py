"""minigrad, through its public interface."""

from __future__ import annotations

import os
from typing import Any

from works import MOMENTUM, Work, labels, network_of, numbers, rate_of, weights

import minigrad
import minigrad.functional as F
from minigrad import Tensor, layers, optim
from peers import Built

minigrad.set_num_threads(int(os.environ["BENCH_THREADS"]))


def norm(work: Work) -> Built:
    """A normalization layer in training."""
    kind, shape = work.detail
    last = (8, shape[1]) if kind == "GroupNorm" else (shape[-1] if kind in ("LayerNorm", "RMSNorm") else shape[1],)
    more = {"affine": True} if kind == "InstanceNorm2d" else {}
    return _layer(getattr(layers, kind)(*last, **more), shape)


def conv(work: Work) -> Built:
    """A 3×3 convolution with padding 1."""
    n, c, o, side = work.detail
    layer = layers.Conv2d(c, o, 3, padding=1)
    weight, bias = weights(("conv", c, o), 0)
    layer.load_state_dict({"weight": weight, "bias": bias})
    return _layer(layer, (n, c, side, side))


def _layer(layer: Any, shape: tuple[int, ...], first: bool = False) -> Built:
    x = Tensor(numbers("x", *shape), requires_grad=not first)
    upstream = Tensor(numbers("gy", *layer(x).shape))

    def call() -> Any:
        x.grad = None
        layer.zero_grad()
        y = layer(x)
        y.backward(upstream)
        return y

    def values() -> dict[str, Any]:
        y = call()
        found = {"y": y.numpy(), **{f"g_{name}": p.grad.numpy() for name, p in layer.named_parameters()}}
        return found if first else {**found, "gx": x.grad.numpy()}

    return Built(call, values)


_LAYERS = {"linear": layers.Linear, "norm1": layers.BatchNorm1d, "norm2": layers.BatchNorm2d,
           "sigmoid": layers.Sigmoid, "relu": layers.ReLU, "pool": lambda: layers.MaxPool2d(2),
           "flatten": layers.Flatten, "conv": lambda a, b, stride: layers.Conv2d(a, b, 3, stride, 1),
           "mean": lambda: layers.Sequential(layers.AdaptiveAvgPool2d(1), layers.Flatten())}


def step(work: Work) -> Built:
    """Forward, cross-entropy, backward and SGD with momentum."""
    shape, stack = network_of(work)
    model = layers.Sequential(*(_LAYERS[kind](*sizes) for kind, *sizes in stack))
    for place, layer in enumerate(stack):
        if layer[0] in ("linear", "conv"):
            weight, bias = weights(layer, place)
            model[place].load_state_dict({"weight": weight, "bias": bias})
    optimizer = optim.SGD(model.parameters(), lr=rate_of(work), momentum=MOMENTUM)
    x, target = Tensor(numbers("x", *shape)), Tensor(labels(shape[0]))

    def call() -> Any:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), target)
        loss.backward()
        optimizer.step()
        return loss

    return Built(call, lambda: {"losses": [call().item() for _ in range(6)]})


def chain(work: Work) -> Built:
    """1000 operations on a Tensor of one element."""
    x, other = Tensor([1.0], requires_grad=True), Tensor([0.999])
    add = work.detail[0] == "add"

    def call() -> Any:
        x.grad = None
        y = x
        for _ in range(1000):
            y = y + other if add else y * other
        y.backward()
        return y

    return Built(call, lambda: {"y": call().numpy(), "gx": x.grad.numpy()})
