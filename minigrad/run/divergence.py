"""Which operation was the first to leave the finite numbers, and in which layer: found by running the step again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from minigrad.backend import is_array, is_floating, namespace
from minigrad.errors import DivergedError
from minigrad.graph import Node
from minigrad.layers import Module
from minigrad.modes import layer_path
from minigrad.observers import Observer, observe
from minigrad.op import holds, value

__all__ = ["explain", "is_finite"]


class _Found(Exception):
    """The first operation that made something infinite or NaN out of finite numbers."""


class _FirstBad(Observer):
    def __init__(self) -> None:
        self.last = ""  # the latest layer in which an operation ran

    def forward(self, op: Any, node: Node | None, scope: Any, inputs: Any, outputs: Any) -> None:
        path = layer_path(scope)
        bad = [output for output in outputs if not is_finite(output)]
        if bad and all(map(is_finite, inputs)):
            raise _Found(f"forward of {op!r}{self._place(path)} made {_kind(bad[0])} out of finite numbers")
        self.last = path or self.last

    def backward(self, node: Node, output_gradients: Any, input_gradients: Any) -> None:
        bad = [i for i, gradient in enumerate(input_gradients) if not is_finite(gradient)]
        if bad and all(map(is_finite, output_gradients)):
            place = self._place(layer_path(node.scope))
            raise _Found(f"backward of {node.op!r}{place} made {_kind(input_gradients[bad[0]])}, "
                         f"as the gradient of its input {bad[0]}, out of finite numbers")

    def _place(self, path: str) -> str:
        if path:
            return f" in layer {path}"
        return f", outside the layers and after layer {self.last}," if self.last else ""


def explain(model: Module, compute: Callable[..., Any], *batch: Any) -> str:
    """Say in one sentence what was the first to go wrong in a step.

    Parameters
    ----------
    model : Module
        With the weights that it had in the step.
    compute : callable
        The forward and backward pass of the step; called as ``compute(*batch)``, under observation.
    *batch : Tensor
        The step's data.

    Returns
    -------
    str
        Weights, data, or an operation with its layer.
    """
    for name, parameter in model.named_parameters():
        if not is_finite(parameter):
            return f"the weights {name} hold {_kind(parameter)}: the update before this step was too large for them"
    for i, tensor in enumerate(batch):
        if not is_finite(tensor):
            return f"the data hold {_kind(tensor)}, in field {i} of the batch"
    try:
        with np.errstate(all="ignore"), observe(_FirstBad()):
            compute(*batch)
    except _Found as found:
        return f"first, {found}"
    return "running the step again gave finite numbers: it does not depend on weights and data alone"


def is_finite(x: Any) -> bool:
    """Whether all elements of a Tensor or array are finite; what is neither, or has no fractions, is."""
    array = value(x)
    return not is_array(array) or not is_floating(array.dtype) or holds(namespace(array).isfinite(array))


def diverged(where: str, got: str, why: str) -> DivergedError:
    """The error that ends the run."""
    return DivergedError(where, got=got, hint=f"{why[0].upper()}{why[1:]}. A lower learning rate or --clip may help")


def _kind(x: Any) -> str:
    array = value(x)
    return "infinity" if holds(~namespace(array).isnan(array)) else "NaN"
