"""Numbers for things that are counted: embedding and one_hot; and normalize, vectors of length 1."""

from __future__ import annotations

from typing import Any

import numpy as np

from minigrad import ops
from minigrad.backend import as_array, astype, is_array, namespace, number
from minigrad.errors import ArgumentError, DtypeError, ShapeError
from minigrad.op import Traced, apply, holds, value
from minigrad.ops.gathering import Take, checked_indices

__all__ = ["embedding", "normalize", "one_hot"]


def embedding(input: Any, weight: Any, padding_idx: int | None = None, max_norm: float | None = None,
              norm_type: float = 2.0, scale_grad_by_freq: bool = False, sparse: bool = False) -> Any:
    """The rows of a table.

    Parameters
    ----------
    input : integers of any shape, from 0
    weight : (rows, features)
    padding_idx : int, optional
        A row that gets no gradient.
    max_norm, norm_type : float, optional
        Rows of a larger `norm_type`-norm are taken scaled down to `max_norm`; the scale counts as a constant. The
        table itself is never written to, unlike torch's.
    scale_grad_by_freq : bool
        Divide the gradient of a row by how often it was taken.
    sparse : bool
        Must be False: there are no sparse gradients here.

    Returns
    -------
    (*input's shape, features)

    Raises
    ------
    ShapeError
        An index is out of range, or the weight is no table.
    DtypeError, ArgumentError
        Indices are no integers; an option is out of range.
    """
    if weight.ndim != 2:
        raise ShapeError("embedding", got=f"weight {tuple(weight.shape)}", wanted="(rows, features)")
    if sparse:
        raise ArgumentError("embedding", got="sparse=True", wanted="False: gradients are dense here")
    rows = weight.shape[0]
    if padding_idx is not None and not -rows <= padding_idx < rows:
        raise ArgumentError("embedding", got=f"padding_idx={padding_idx}", wanted=f"from {-rows} to {rows - 1}")
    input = checked_indices("embedding", weight, input, rows, 0)
    indices = value(input)
    xp = namespace(indices)
    y = apply(Take(0), weight, input)
    if max_norm is not None:
        length = ops.norm(ops.stop_gradient(y), norm_type, -1, keepdims=True)
        scale = ops.where(length > max_norm, max_norm / (length + 1e-7), 1.0)
        y = y + ops.stop_gradient(y * scale - y)
    if scale_grad_by_freq and indices.size:
        flat = xp.reshape(indices, (-1,))
        counts = xp.reshape(xp.take(xp.bincount(flat, minlength=rows), flat, axis=0), indices.shape)
        share = xp.expand_dims(1 / astype(counts, value(y).dtype), axis=-1)
        y = y * share + ops.stop_gradient(y * (1 - share))
    if padding_idx is not None:
        y = ops.where(xp.expand_dims(indices == padding_idx % rows, axis=-1), ops.stop_gradient(y), y)
    return y


def one_hot(tensor: Any, num_classes: int = -1) -> Any:
    """1 at the place of each class, else 0 (int64): shape (*, classes).

    Parameters
    ----------
    tensor : integers from 0, of any shape
    num_classes : int
        −1 for the largest of them and one more.

    Raises
    ------
    DtypeError, ArgumentError
        No integers; a class is out of range; no classes to count.
    """
    classes = value(tensor) if isinstance(tensor, Traced) or is_array(tensor) else as_array(tensor)
    if classes.dtype.kind not in "iu":
        raise DtypeError("one_hot", got=f"dtype {classes.dtype}", wanted="integers")
    if num_classes < -1 or num_classes == 0 or (num_classes == -1 and not classes.size):
        raise ArgumentError("one_hot", got=f"num_classes={num_classes} for {classes.size} elements",
                            wanted="a number above 0, or −1 and at least one element")
    xp = namespace(classes)
    count = number(xp.max(classes)) + 1 if num_classes == -1 else num_classes
    if classes.size and not holds((classes >= 0) & (classes < count)):
        raise ArgumentError("one_hot", got=f"classes from {number(xp.min(classes))} to {number(xp.max(classes))}",
                            wanted=f"from 0 to {count - 1}")
    made = astype(xp.expand_dims(classes, axis=-1) == xp.arange(count), np.int64)
    return tensor.constant(made) if isinstance(tensor, Traced) else made


def normalize(input: Any, p: float = 2.0, dim: Any = 1, eps: float = 1e-12) -> Any:
    """x / max(‖x‖ₚ, eps) along `dim`, an axis or several, () for all: vectors of length 1."""
    return input / ops.clip(ops.norm(input, p, None if dim == () else dim, keepdims=True), min=eps)
