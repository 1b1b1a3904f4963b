"""Observers: who is told of every operation, forward and backward, inside a `with` block; and the anomaly detector."""

from __future__ import annotations

import linecache
import sys
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from minigrad.backend import is_array, is_floating, namespace, number, synchronize
from minigrad.errors import GraphError
from minigrad.graph import Node
from minigrad.modes import Mode, layer_path, switch
from minigrad.op import value

__all__ = ["Observer", "detect_anomaly", "observe", "wait_for"]


class Observer:
    """Told of every operation while it is active; a subclass overrides what it wants to hear. While none is active,
    the engine pays one test per operation.
    """

    def forward(self, op: Any, node: Node | None, scope: Any, inputs: Any, outputs: Any) -> None:
        """An operation has run.

        Parameters
        ----------
        op : Op
        node : Node or None
            What was recorded, if anything.
        scope : the layers being called; `minigrad.modes.layer_path` writes it
        inputs : what the operation was given: Tensors, arrays, numbers, None
        outputs : sequence of Tensors
        """

    def backward(self, node: Node, output_gradients: Any, input_gradients: Any) -> None:
        """A node's backward has run.

        Parameters
        ----------
        node : Node
        output_gradients : per output the total gradient, or None; arrays, or Tensors under `create_graph`
        input_gradients : per input the gradient through *this* node alone, in the input's shape, or None
        """

    def statistics(self, layer: Any, scope: Any, update: Any) -> None:
        """A layer in training has taken the statistics of its batch.

        Parameters
        ----------
        layer : the layer, whose buffers have moved unless a ledger withholds the update
        scope : the layers being called
        update : StatsUpdate
        """


class observe(switch):
    """Tell `observer` of every operation inside the block: ``with observe(Timer()):``.

    What an observer itself computes is neither recorded nor observed.
    """

    def __init__(self, observer: Any) -> None:
        super().__init__()
        self.observer = observer

    def changed(self, mode: Mode) -> Mode:
        return mode.replace(observers=(*mode.observers, self.observer))


def wait_for(tensors: Any) -> None:
    """Wait until a device has computed these Tensors, arrays or None: who measures times has to."""
    array = next((value(t) for t in tensors if is_array(value(t))), None)
    if array is not None:
        synchronize(array)


class _Anomaly(Observer):
    """Remember where each node was made, and stop at the first NaN that an operation makes out of numbers."""

    def __init__(self) -> None:
        self.lines: WeakKeyDictionary[Node, str] = WeakKeyDictionary()

    def forward(self, op: Any, node: Node | None, scope: Any, inputs: Any, outputs: Any) -> None:
        line = _calling_line()
        if node is not None:
            self.lines[node] = line
        if any(map(_has_nan, outputs)) and not any(map(_has_nan, inputs)):
            raise GraphError(f"forward of {op!r}", got="NaN in its output and none in its inputs",
                             hint=f"Called at {line}")

    def backward(self, node: Node, output_gradients: Any, input_gradients: Any) -> None:
        bad = [i for i, g in enumerate(input_gradients) if _has_nan(g)]
        if bad and not any(map(_has_nan, output_gradients)):
            path = layer_path(node.scope)
            line = self.lines.get(node, "a line outside detect_anomaly()")
            raise GraphError(f"backward of {node.op!r}" + (f" in layer {path}" if path else ""),
                             got=f"NaN in the gradient of input {bad[0]} and none in the gradient of its output",
                             hint=f"Its forward was called at {line}")


def _has_nan(x: Any) -> bool:
    array = value(x)
    if not is_array(array) and not isinstance(array, np.generic):  # 0-d arithmetic gives NumPy's scalars
        return False
    xp = namespace(array)
    return is_floating(array.dtype) and bool(number(xp.any(xp.isnan(array))))


def _calling_line() -> str:
    """The innermost line of code outside minigrad itself: file, line, function and text."""
    frame: Any = sys._getframe(2)
    while frame.f_back is not None and _is_ours(frame.f_globals.get("__name__", "")):
        frame = frame.f_back
    code, number = frame.f_code, frame.f_lineno
    text = linecache.getline(code.co_filename, number).strip()
    return f"{code.co_filename}:{number}, in {code.co_name}: {text}"


def _is_ours(module: str) -> bool:
    return module.split(".", maxsplit=1)[0] == "minigrad" and not module.startswith("minigrad.examples")


def detect_anomaly() -> switch:
    """Inside the block, stop where a NaN first appears, and name the line whose operation made it.

    Works for the forward pass and for the backward pass of operations that ran inside the block. Slow: every array is
    searched.

    Raises
    ------
    GraphError
        An operation made a NaN out of numbers; the message names operation, layer and line.
    """
    return observe(_Anomaly())
