"""PyTorch, eager or compiled, in float32; in float64 it is what all others are compared with."""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import nn
from works import MOMENTUM, Work, labels, network_of, numbers, rate_of, weights

from peers import Built

torch.set_num_threads(int(os.environ["BENCH_THREADS"]))
COMPILED = bool(os.environ.get("BENCH_COMPILED"))
DTYPE = torch.float64 if os.environ.get("BENCH_FLOAT64") else torch.float32


def _tensor(array: Any) -> Any:
    return torch.tensor(array).to(DTYPE)


def norm(work: Work) -> Built:
    """A normalization layer in training."""
    kind, shape = work.detail
    last = (8, shape[1]) if kind == "GroupNorm" else (shape[-1] if kind in ("LayerNorm", "RMSNorm") else shape[1],)
    more = {"affine": True} if kind == "InstanceNorm2d" else {}
    return _layer(getattr(nn, kind)(*last, **more), shape)


def conv(work: Work) -> Built:
    """A 3×3 convolution with padding 1."""
    n, c, o, side = work.detail
    layer = nn.Conv2d(c, o, 3, padding=1)
    weight, bias = weights(("conv", c, o), 0)
    layer.load_state_dict({"weight": torch.tensor(weight), "bias": torch.tensor(bias)})
    return _layer(layer, (n, c, side, side))


def _layer(layer: Any, shape: tuple[int, ...], first: bool = False) -> Built:
    layer = layer.to(DTYPE)
    forward = torch.compile(layer) if COMPILED else layer
    x = _tensor(numbers("x", *shape)).requires_grad_(not first)
    upstream = _tensor(numbers("gy", *layer(x).shape))

    def call() -> Any:
        x.grad = None
        layer.zero_grad()
        y = forward(x)
        y.backward(upstream)
        return y

    def values() -> dict[str, Any]:
        y = call()
        found = {"y": y.detach().numpy(), **{f"g_{name}": p.grad.numpy() for name, p in layer.named_parameters()}}
        return found if first else {**found, "gx": x.grad.numpy()}

    return Built(call, values)


_LAYERS = {"linear": nn.Linear, "norm1": nn.BatchNorm1d, "norm2": nn.BatchNorm2d, "sigmoid": nn.Sigmoid,
           "relu": nn.ReLU, "pool": lambda: nn.MaxPool2d(2), "flatten": nn.Flatten,
           "conv": lambda a, b, stride: nn.Conv2d(a, b, 3, stride, 1),
           "mean": lambda: nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())}


def step(work: Work) -> Built:
    """Forward, cross-entropy, backward and SGD with momentum."""
    shape, stack = network_of(work)
    model = nn.Sequential(*(_LAYERS[kind](*sizes) for kind, *sizes in stack))
    for place, layer in enumerate(stack):
        if layer[0] in ("linear", "conv"):
            weight, bias = weights(layer, place)
            model[place].load_state_dict({"weight": torch.tensor(weight), "bias": torch.tensor(bias)})
    model = model.to(DTYPE)
    forward = torch.compile(model) if COMPILED else model
    optimizer = torch.optim.SGD(model.parameters(), lr=rate_of(work), momentum=MOMENTUM)
    x, target = _tensor(numbers("x", *shape)), torch.tensor(labels(shape[0]))
    cross_entropy = nn.functional.cross_entropy

    def call() -> Any:
        optimizer.zero_grad()
        loss = cross_entropy(forward(x), target)
        loss.backward()
        optimizer.step()
        return loss

    return Built(call, lambda: {"losses": [call().item() for _ in range(6)]})


def chain(work: Work) -> Built | None:
    """1000 operations on a Tensor of one element."""
    if COMPILED:
        return None  # a loop that is unrolled at compile time measures something else
    x, other = _tensor([1.0]).requires_grad_(), _tensor([0.999])
    add = work.detail[0] == "add"

    def call() -> Any:
        x.grad = None
        y = x
        for _ in range(1000):
            y = y + other if add else y * other
        y.backward()
        return y

    return Built(call, lambda: {"y": call().detach().numpy(), "gx": x.grad.numpy()})
