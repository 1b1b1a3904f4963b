"""tinygrad with its own layers and optimizer, replayed by its JIT; code for the processor is compiled by clang."""

from __future__ import annotations

from typing import Any

from tinygrad import Device, Tensor, TinyJit, nn
from works import MOMENTUM, Work, labels, network_of, numbers, rate_of, weights

from peers import Built, formulas

EPS = 1e-5


def _norm_layer(kind: str, shape: tuple[int, ...]) -> Any:
    if kind.startswith("BatchNorm"):
        return nn.BatchNorm(shape[1], EPS)
    if kind == "GroupNorm":
        return nn.GroupNorm(formulas.GROUPS, shape[1], EPS)
    if kind == "InstanceNorm2d":
        return nn.InstanceNorm(shape[1], EPS)
    return nn.LayerNorm(shape[-1], EPS) if kind == "LayerNorm" else nn.RMSNorm(shape[-1], formulas.EPS[kind])


def norm(work: Work) -> Built:
    """A normalization layer in training."""
    kind, shape = work.detail
    return _layer(_norm_layer(kind, shape), shape)


def conv(work: Work) -> Built:
    """A 3×3 convolution with padding 1."""
    n, c, o, side = work.detail
    return _layer(_loaded(nn.Conv2d(c, o, 3, padding=1), weights(("conv", c, o), 0)), (n, c, side, side))


def _loaded(layer: Any, held: Any) -> Any:
    layer.weight, layer.bias = (Tensor(a) for a in held)
    return layer


def _layer(layer: Any, shape: tuple[int, ...]) -> Built:
    held = [p for p in (layer.weight, getattr(layer, "bias", None)) if p is not None]
    x = Tensor(numbers("x", *shape)).realize()
    Tensor.realize(*held)
    upstream = Tensor(numbers("gy", *layer(x).shape)).realize()

    @TinyJit
    def both(x: Any, upstream: Any) -> Any:
        y = layer(x)
        found = (y, *y.gradient(x, *held, gradient=upstream))
        Tensor.realize(*found)
        return found

    def call() -> Any:
        found = both(x, upstream)
        Device[Device.DEFAULT].synchronize()
        return found

    def values() -> dict[str, Any]:
        y, gx, *rest = (t.numpy() for t in call())
        return formulas.gradients_by_name(y, gx, rest)

    return Built(call, values)


_LAYERS: dict[str, Any] = {
    "linear": nn.Linear, "norm1": nn.BatchNorm, "norm2": nn.BatchNorm, "sigmoid": lambda: Tensor.sigmoid,
    "relu": lambda: Tensor.relu, "pool": lambda: Tensor.max_pool2d, "flatten": lambda: lambda x: x.flatten(1),
    "mean": lambda: lambda x: x.mean((2, 3)), "conv": lambda a, b, stride: nn.Conv2d(a, b, 3, stride, 1)}


def step(work: Work) -> Built:
    """Forward, cross-entropy, backward and SGD with momentum."""
    shape, stack = network_of(work)
    model = [_LAYERS[kind](*sizes) for kind, *sizes in stack]
    for layer, held in zip(model, formulas.network_parameters(stack)):
        if held:
            _loaded(layer, held)
    optimizer = nn.optim.SGD(nn.state.get_parameters(model), lr=rate_of(work), momentum=MOMENTUM)
    x, target = Tensor(numbers("x", *shape)).realize(), Tensor(labels(shape[0])).realize()

    @TinyJit
    def stepped(x: Any, target: Any) -> Any:
        optimizer.zero_grad()
        loss = x.sequential(model).sparse_categorical_crossentropy(target).backward()
        return loss.realize(*optimizer.schedule_step())

    def call() -> Any:
        loss = stepped(x, target)
        Device[Device.DEFAULT].synchronize()
        return loss

    return Built(call, lambda: {"losses": [call().item() for _ in range(6)]})
