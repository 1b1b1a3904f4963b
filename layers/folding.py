"""BatchNorm folded into the linear map before it, for inference.

In evaluation a BatchNorm is an affine map per channel, y = a·z + c with a = γ/√(σ² + ε) and c = β − a·μ. After a linear
map z = W·x + b it disappears into that:

    W′ = a·W (per output channel)        b′ = a·(b − μ) + β
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from minigrad.backend import astype, namespace
from minigrad.errors import ArgumentError, ShapeError
from minigrad.layers.batch_norm import BatchNorm
from minigrad.layers.containers import Identity, Sequential
from minigrad.layers.convolution import Conv1d, Conv2d, Conv3d, ConvTranspose1d, ConvTranspose2d, ConvTranspose3d
from minigrad.layers.linear import Linear
from minigrad.layers.module import Module
from minigrad.layers.statistics import frozen_statistics
from minigrad.modes import no_grad
from minigrad.observers import Observer, observe
from minigrad.op import Traced
from minigrad.tensor import Parameter

__all__ = ["FoldedFeatures", "Folding", "fold", "folds"]

#: Linear layers whose weight is (outputs, inputs, …), and those whose weight is (inputs, outputs/groups, …).
STRAIGHT = (Linear, Conv1d, Conv2d, Conv3d)
TRANSPOSED = (ConvTranspose1d, ConvTranspose2d, ConvTranspose3d)


class Folding(NamedTuple):
    """What can be done about one BatchNorm.

    Attributes
    ----------
    path : str
        Of the BatchNorm.
    into : str
        The path of the layer to fold it into; empty if there is none.
    reason : str
        Why it cannot be folded; empty if it can.
    """

    path: str
    into: str
    reason: str


class FoldedFeatures(Identity):
    """In the place of a BatchNorm that a linear layer has taken in: returns its argument, which must be (N, C).

    With more axes the normalization was over axis 1, and the features of a linear layer are the last.
    """

    def forward(self, x: Any) -> Any:
        """Return `x`."""
        if x.ndim != 2:
            raise ShapeError("FoldedFeatures", got=f"input of shape {tuple(x.shape)}",
                             wanted="(N, C), for which alone this BatchNorm is part of the linear layer before it",
                             hint="Use the model that was not folded, or fold it with such an example input")
        return x


class _Uses(Observer):
    """How the layers of a model are connected in one run: what each was given and gave, and who used that."""

    def __init__(self) -> None:
        self.made_by: dict[int, Module] = {}
        self.takers: dict[int, int] = {}
        self.given: list[tuple[Module, Any]] = []
        self.calls: dict[Module, int] = {}
        self.alive: list[Any] = []

    def forward(self, op: Any, node: Any, scope: Any, inputs: Any, outputs: Any) -> None:
        for x in {id(x): x for x in inputs if isinstance(x, Traced)}.values():
            self.takers[id(x)] = self.takers.get(id(x), 0) + 1
        self.alive += [*inputs, *outputs]

    def call(self, layer: Module, inputs: Any, output: Any) -> None:
        self.calls[layer] = self.calls.get(layer, 0) + 1
        self.given.append((layer, inputs[0] if inputs else None))
        if isinstance(output, Traced):
            self.made_by[id(output)] = layer
        self.alive += [*inputs, output]


def _traced(model: Module, inputs: tuple[Any, ...]) -> _Uses:
    """Run the model once and see how its layers are connected."""
    uses = _Uses()
    removers = [layer.register_forward_hook(uses.call) for layer in model.modules()
                if isinstance(layer, BatchNorm) or not list(layer.children())]
    try:
        with no_grad(), frozen_statistics(), observe(uses):
            result = model(*inputs)
    finally:
        for remove in removers:
            remove()
    for y in _results(result):
        uses.takers[id(y)] = uses.takers.get(id(y), 0) + 1  # the caller
    return uses


def _results(result: Any) -> Iterator[Any]:
    """What a model returns, out of its tuples, lists and dicts."""
    if isinstance(result, (tuple, list, dict)):
        for part in result.values() if isinstance(result, dict) else result:
            yield from _results(part)
    else:
        yield result


def _flat(module: Module) -> Iterator[Module]:
    """The layers that a Sequential, with the Sequentials in it, runs one after another; else the module itself."""
    plain = type(module).forward is Sequential.forward and not (module._hooks or module._pre_hooks)
    if isinstance(module, Sequential) and plain:
        for child in module:
            yield from _flat(child)
    else:
        yield module


def _before(model: Module, inputs: tuple[Any, ...]) -> dict[Module, tuple[Module | None, str]]:
    """For every BatchNorm the layer that feeds it, and what speaks against folding in how they are connected."""
    found: dict[Module, tuple[Module | None, str]] = {}
    if inputs:
        uses = _traced(model, inputs)
        for layer, x in uses.given:
            if isinstance(layer, BatchNorm):
                maker = uses.made_by.get(id(x))
                why = "" if uses.takers.get(id(x)) == 1 else "what it is given is used elsewhere too"
                if max(uses.calls.get(m, 0) for m in (layer, maker) if m is not None) > 1:
                    why = "it, or the layer before it, is called more than once"
                if isinstance(maker, Linear) and x.ndim != 2:
                    why = f"it normalizes axis 1 of {tuple(x.shape)}, and the linear layer's features are the last"
                found[layer] = maker, why
        return found
    chain = list(_flat(model))
    for previous, layer in zip([None, *chain], chain):
        if isinstance(layer, BatchNorm) and layer is not model:
            found[layer] = previous, ""
    return found


def _shared(model: Module) -> set[Module]:
    """The layers that stand in several places of a model, and those that share a parameter with another one."""
    places: dict[Module, int] = {}
    owners: dict[int, set[Module]] = {}
    for _, layer in model.named_modules(remove_duplicate=False):
        places[layer] = places.get(layer, 0) + 1
        for parameter in layer.parameters(recurse=False):
            owners.setdefault(id(parameter), set()).add(layer)
    tied = {layer for group in owners.values() if len(group) > 1 for layer in group}
    return tied | {layer for layer, count in places.items() if count > 1}


def _reason(norm: BatchNorm, before: Module | None, connection: str) -> str:
    """Why a BatchNorm cannot be folded into the layer before it; empty if it can."""
    if not norm.track_running_stats:
        return "it has no running statistics, so it is no fixed map"
    if not norm.uses_running_stats:
        return "it is in training mode: call eval() first"
    if before is None:
        return "nothing linear stands before it (folding into what follows would be wrong at padding)"
    if type(before) not in (*STRAIGHT, *TRANSPOSED):
        return f"it follows {type(before).__name__}, which is not linear"
    channels = before.out_features if isinstance(before, Linear) else before.out_channels
    if channels != norm.num_features:
        return f"it has {norm.num_features} channels and the layer before it gives {channels}"
    if before._hooks or norm._hooks or norm._pre_hooks:
        return "it, or the layer before it, has hooks, which may change or want what passes between them"
    return connection


def folds(model: Module, *inputs: Any) -> list[Folding]:
    """For every BatchNorm of a model: what it would be folded into, or why it cannot be.

    Parameters
    ----------
    model : Module
    *inputs
        An example of the model's inputs. Without it, only the order of layers in a `Sequential` model is known.
    """
    names: dict[Module, str] = {layer: name for name, layer in model.named_modules()}
    before, shared = _before(model, inputs), _shared(model)
    result = []
    for norm, name in names.items():
        if isinstance(norm, BatchNorm):
            if norm in before:
                previous, connection = before[norm]
                if not connection and shared & {norm, previous}:
                    connection = "it, or the layer before it, is used in several places or shares a parameter"
                reason = _reason(norm, previous, connection)
            else:
                previous, reason = None, (
                    "it was not called" if inputs else
                    "the order of calls is known in a Sequential alone: pass an example input to see what feeds it")
            result.append(Folding(name, names[previous] if previous in names and not reason else "", reason))
    return result


def fold(model: Module, *inputs: Any, strict: bool = True) -> Module:
    """A copy of a model for inference, with every BatchNorm folded into the linear layer or convolution before it.

    The copy computes the same up to rounding, without the normalizations: in their places stands `Identity`, behind a
    linear layer a `FoldedFeatures`. It is in evaluation mode. The model itself stays as it is.

    Parameters
    ----------
    model : Module
        In evaluation mode, or with its BatchNorms frozen.
    *inputs
        An example of the model's inputs, to see how its layers are connected. Not needed if the model is a `Sequential`
        and every BatchNorm stands in it, or in a `Sequential` in it, behind a layer that is used once.
    strict : bool
        Refuse if any BatchNorm cannot be folded; else those are left as they are (see `folds` for the reasons).

    Returns
    -------
    Module

    Raises
    ------
    ArgumentError
        A BatchNorm cannot be folded: the message names each and says why.

    Examples
    --------
    >>> import minigrad
    >>> from minigrad.layers import BatchNorm1d, Linear, ReLU, Sequential, fold
    >>> model = Sequential(Linear(2, 3, bias=False), BatchNorm1d(3), ReLU()).eval()
    >>> fold(model)
    Sequential(
      (0): Linear(in_features=2, out_features=3, bias=True)
      (1): FoldedFeatures()
      (2): ReLU()
    )
    >>> fold(Sequential(Linear(2, 3), ReLU(), BatchNorm1d(3)).eval())
    Traceback (most recent call last):
    ...
    minigrad.errors.ArgumentError: fold: got 2: it follows ReLU, which is not linear; wanted BatchNorms that can be
    folded. strict=False leaves these as they are
    """
    found = folds(model, *inputs)
    refused = [f"{f.path or type(model).__name__}: {f.reason}" for f in found if f.reason]
    if strict and refused:
        raise ArgumentError("fold", got="; ".join(refused), wanted="BatchNorms that can be folded",
                            hint="strict=False leaves these as they are")
    result = copy.deepcopy(model).eval()
    for path, into, reason in found:
        if not reason:
            norm, layer = result.get_submodule(path), result.get_submodule(into)
            assert isinstance(norm, BatchNorm)
            _fold_into(layer, norm)
            parent, _, name = path.rpartition(".")
            stand_in = FoldedFeatures() if isinstance(layer, Linear) else Identity()
            result.get_submodule(parent).add_module(name, stand_in)
    return result


def _fold_into(layer: Any, norm: BatchNorm) -> None:
    """Scale the weight and move the bias of a linear layer, computed in float64."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    weight = layer.weight.data
    mean, variance = (astype(b.data, np.float64) for b in (norm.running_mean, norm.running_var))
    scale = 1 / namespace(variance).sqrt(variance + norm.eps)
    scale = scale if norm.weight is None else scale * norm.weight.data
    bias = (0.0 if layer.bias is None else layer.bias.data) - mean
    bias = bias * scale if norm.bias is None else bias * scale + norm.bias.data
    layer.weight.assign(_scaled(layer, weight, scale))
    layer.register_parameter("bias", Parameter(astype(bias, weight.dtype), requires_grad=layer.weight.requires_grad))


def _scaled(layer: Any, weight: Any, scale: Any) -> Any:
    """The weight with every output channel's part multiplied by that channel's factor."""
    reshape = namespace(weight).reshape
    if not isinstance(layer, TRANSPOSED):
        return weight * reshape(scale, (-1, *(1,) * (weight.ndim - 1)))
    inputs, outputs, *kernel = weight.shape
    groups = layer.groups
    factors = reshape(scale, (groups, 1, outputs, *(1,) * len(kernel)))
    return reshape(reshape(weight, (groups, inputs // groups, outputs, *kernel)) * factors, weight.shape)
