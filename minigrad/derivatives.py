"""Whole matrices of derivatives: `jacobian` and `hessian`, and the Hessian times a vector without the matrix, `hvp`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from minigrad import ops
from minigrad.backend import namespace
from minigrad.engine import check_tensors, grad, leaves_of, outputs_of
from minigrad.errors import GraphError, ShapeError
from minigrad.modes import enable_grad
from minigrad.op import value

__all__ = ["hessian", "hvp", "jacobian"]

Function = Callable[..., Any]


def _rows(y: Any, xs: tuple[Any, ...], create_graph: bool) -> tuple[Any, ...]:
    """∂y/∂x for every x, of shape (*y's, *x's): one backward for each element of y."""
    rows: list[tuple[Any, ...]] = []
    if y.requires_grad:
        xp = namespace(y.data)
        for place in range(y.size):
            unit = xp.zeros(y.size, dtype=y.dtype)
            unit[place] = 1
            seed = y.wrap(xp.reshape(unit, y.shape))
            rows.append(grad(y, xs, seed, create_graph=create_graph, retain_graph=True, allow_unused=True))
    found = []
    for k, x in enumerate(xs):
        parts = [x.zeros_like() if row[k] is None else row[k] for row in rows]
        if parts:
            made = ops.stack(parts, 0)
        else:
            made = y.wrap(namespace(x.data).zeros((y.size, *x.shape), dtype=x.dtype))
        found.append(ops.reshape(made, (*y.shape, *x.shape)))
    return tuple(found)


@enable_grad()
def jacobian(function: Function, inputs: Any, create_graph: bool = False) -> Any:
    """All derivatives of a function's outputs by its inputs, as `torch.autograd.functional.jacobian`.

    Parameters
    ----------
    function : callable
        Takes Tensors, returns a Tensor or a tuple of them.
    inputs : Tensor or tuple of Tensors
    create_graph : bool
        Let the result be differentiated again.

    Returns
    -------
    Tensor of shape (*output's, *input's), or tuples of them
        One for each input, if they were a tuple; one of those for each output, if they are a tuple. 0 where an output
        does not depend on an input. What the function knows of `inputs` by another way than its arguments is held
        constant, as in torch.autograd.functional.

    Examples
    --------
    >>> import minigrad
    >>> from minigrad import Tensor
    >>> minigrad.jacobian(lambda x: x * x, Tensor([1.0, 2.0]))
    Tensor([[2., 0.],
            [0., 4.]], float32)
    """
    return _jacobian(function, inputs, create_graph, "jacobian")


def _jacobian(function: Function, inputs: Any, create_graph: bool, where: str) -> Any:
    xs = leaves_of(inputs, create_graph, where)
    outputs = outputs_of(function, xs, where)
    several = isinstance(outputs, (tuple, list))
    ys = tuple(outputs) if several else (outputs,)
    found = tuple(_rows(y, xs, create_graph) for y in ys)
    if not isinstance(inputs, (tuple, list)):
        singles = tuple(row[0] for row in found)
        return singles if several else singles[0]
    return found if several else found[0]


def _scalar(where: str, y: Any) -> Any:
    if isinstance(y, (tuple, list)) or value(y).size != 1:
        got = f"{len(y)} outputs" if isinstance(y, (tuple, list)) else f"an output of shape {y.shape}"
        raise ShapeError(where, got=got, wanted="one output of one element")
    return ops.reshape(y, ())


@enable_grad()
def hessian(function: Function, inputs: Any, create_graph: bool = False) -> Any:
    """All second derivatives of a function with one value, as `torch.autograd.functional.hessian`.

    Parameters
    ----------
    function : callable
        Takes Tensors, returns a Tensor of one element.
    inputs : Tensor or tuple of Tensors
    create_graph : bool
        Let the result be differentiated again.

    Returns
    -------
    Tensor of shape (*input's, *input's), or for a tuple of inputs a tuple of tuples of (*i-th input's, *j-th input's)

    Raises
    ------
    ShapeError
        The function gives more than one element.

    Examples
    --------
    >>> import minigrad
    >>> from minigrad import Tensor
    >>> minigrad.hessian(lambda x: (x * x * x).sum(), Tensor([1.0, 2.0]))
    Tensor([[ 6.,  0.],
            [ 0., 12.]], float32)
    """
    single = not isinstance(inputs, (tuple, list))

    def gradient(*xs: Any) -> tuple[Any, ...]:
        y = _scalar("hessian", outputs_of(function, xs, "hessian"))
        if not y.requires_grad:
            return tuple(x.zeros_like() for x in xs)
        found = grad(y, xs, create_graph=True, allow_unused=True)
        return tuple(x.zeros_like() if g is None else g for x, g in zip(xs, found))

    found = _jacobian(gradient, (inputs,) if single else tuple(inputs), create_graph, "hessian")
    return found[0][0] if single else found


@enable_grad()
def hvp(function: Function, inputs: Any, v: Any, create_graph: bool = False) -> tuple[Any, Any]:
    """A function's value, and its Hessian times a vector: two backward passes, without the matrix.

    Parameters
    ----------
    function : callable
        Takes Tensors, returns a Tensor of one element.
    inputs, v : Tensor or tuple of Tensors
        x and the vector, of equal shapes.
    create_graph : bool
        Let the product be differentiated again.

    Returns
    -------
    output : Tensor
    products : as `inputs` are: a Tensor, or a tuple of Tensors

    Raises
    ------
    ShapeError
        The function gives more than one element, or the shapes of `inputs` and `v` differ.

    Examples
    --------
    >>> import minigrad
    >>> from minigrad import Tensor
    >>> minigrad.hvp(lambda x: (x * x * x).sum(), Tensor([1.0, 2.0]), Tensor([1.0, 10.0]))[1]
    Tensor([  6., 120.], float32)
    """
    xs = leaves_of(inputs, create_graph, "hvp")
    vs = tuple(v) if isinstance(v, (tuple, list)) else (v,)
    check_tensors(vs, "hvp", "vector", arrays=True)
    if [tuple(x.shape) for x in xs] != [tuple(u.shape) for u in vs]:
        raise ShapeError("hvp", got=f"vectors of shapes {[tuple(u.shape) for u in vs]}",
                         wanted=f"those of the inputs, {[tuple(x.shape) for x in xs]}")
    output = outputs_of(function, xs, "hvp")
    y = _scalar("hvp", output)
    if not y.requires_grad:
        raise GraphError("hvp", got="an output that depends on no input", wanted="one that does")
    first = grad(y, xs, create_graph=True, allow_unused=True)
    live = [(g, u) for g, u in zip(first, vs) if g is not None and g.requires_grad]
    found = (grad([g for g, _ in live], xs, [u for _, u in live], create_graph, allow_unused=True) if live
             else (None,) * len(xs))
    products = tuple(x.zeros_like() if g is None else g for x, g in zip(xs, found))
    return output, products if isinstance(inputs, (tuple, list)) else products[0]
