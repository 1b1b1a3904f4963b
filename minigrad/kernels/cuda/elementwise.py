"""Activations and dropout on a GPU: one pass over memory where the text takes several."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from minigrad.kernels.cuda.launch import ELEMENTS, THREADS, blocks, element_macros, here, kernel, takes, vector
from minigrad.kernels.registry import accelerates
from minigrad.ops.activation import GELU, GELUTanh, ReLU, Sigmoid, SiLU
from minigrad.ops.elementwise import Tanh
from minigrad.ops.random import Dropout

FILE = "elementwise"
#: The operations whose forward takes several passes, and those whose backward does, by their kernels.
FORWARD = {Sigmoid: "sigmoid_forward", SiLU: "silu_forward", GELU: "gelu_forward", GELUTanh: "gelu_tanh_forward"}
BACKWARD = {ReLU: "relu_backward", Sigmoid: "sigmoid_backward", Tanh: "tanh_backward", SiLU: "silu_backward",
            GELU: "gelu_backward", GELUTanh: "gelu_tanh_backward"}


def _run(name: str, *arrays: Any, scale: float | None = None) -> Any:
    """Launch a kernel for arrays of one shape and give its result."""
    import cupy

    x = arrays[0]
    out = cupy.empty_like(x)
    wide = vector(x.size, x, out)
    if any(a.data.ptr % (wide * a.itemsize) for a in arrays):
        wide = 1
    packs = x.size // wide
    more = () if scale is None else (np.float32(scale),)
    kernel(FILE, name, VEC=wide, **element_macros(x.dtype))(blocks(packs, x), (THREADS,),
                                                            (*arrays, out, *more, np.uint32(packs)))
    return out


def _forward(op: Any, x: Any) -> Any:
    return _run(FORWARD[type(op)], x) if takes(x) else NotImplemented


def _backward(op: Any, saved: Any, needs: Any, gy: Any) -> Any:
    kept = saved[0]
    if not takes(gy, kept) or gy.shape != kept.shape:
        return NotImplemented
    return (_run(BACKWARD[type(op)], gy, kept, scale=1.0),)


for _op in FORWARD:
    accelerates(_op, "forward", device="cuda")(_forward)
for _op in BACKWARD:
    accelerates(_op, "backward", device="cuda")(_backward)


def _drops(x: Any, kept: Any) -> bool:
    return takes(x) and here(kept) and kept.dtype == np.bool_ and kept.flags.c_contiguous and kept.shape == x.shape


@accelerates(Dropout, "forward", device="cuda")
def dropout(op: Any, x: Any, kept: Any) -> Any:
    """`x` scaled where kept, else 0, as the text gives it."""
    return _run("dropout", x, kept, scale=op._scale()) if _drops(x, kept) else NotImplemented


@accelerates(Dropout, "backward", device="cuda")
def dropout_backward(op: Any, saved: Any, needs: Any, gy: Any) -> Any:
    """The gradient scaled where kept, else 0."""
    return (_run("dropout", gy, saved[0], scale=op._scale()), None) if _drops(gy, saved[0]) else NotImplemented


def combinations() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every source and macros that the kernels here can ask for."""
    for name, element in ELEMENTS.items():
        for wide in (1, 16 // (4 if name == "float32" else 2)):
            yield FILE, {"ELEMENT": element, "HALF": int(name != "float32"), "VEC": wide}
