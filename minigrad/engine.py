"""Differentiation: one loop over the recorded nodes, newest first, for arrays and for Tensors alike.

Without `create_graph` the loop hands raw arrays to `Op.backward`; with it, Tensors that carry the history of what was
saved, so that the same text records a graph of itself. Nodes made in a backward pass have higher numbers than those of
the forward pass, so the same order serves every derivative of every order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from heapq import heappop, heappush
from typing import Any

from minigrad.backend import as_array, is_array, memory, namespace
from minigrad.errors import DtypeError, GraphError, ShapeError
from minigrad.graph import RELEASED, Node, hooks, node_of, walk
from minigrad.modes import current, enter, layer_path, leave, no_grad, switch
from minigrad.op import Traced, explain, restore, value
from minigrad.versions import newest_write, written

__all__ = ["backward", "grad", "jvp", "vjp"]


# ------------------------------------------------------------------ the loop


def _lift(node: Node, wrap: Callable[..., Any]) -> tuple[Any, ...]:
    """The saved arrays as Tensors with their history. Only here does an output get its node back: no cycles."""
    lifted = []
    for (kind, i, _), array in zip(node.op.keeps, node.saved):
        if array is None or not is_array(array):
            lifted.append(array)
        elif kind == "input":
            lifted.append(wrap(array, node.edges[i]))
        elif i < node.op.n_out:
            lifted.append(wrap(array, (node, i) if i else node))
        else:
            lifted.append(wrap(array, None))
    return tuple(lifted)


def _check_saved(node: Node) -> None:
    """Refuse to differentiate with an array that was changed in place after it was saved."""
    for (kind, i, _), array in zip(node.op.keeps, node.saved):
        if is_array(array) and written(array) > node.seq:
            raise GraphError(
                _place(node), got=f"{kind} {i} of shape {tuple(array.shape)}, changed in place after it was saved",
                wanted="the values of the forward pass",
                hint="Call backward before the optimizer's step or assign(), or keep a clone()")


def _place(node: Node) -> str:
    path = layer_path(node.scope)
    return f"backward of {node.op!r}" + (f" in layer {path}" if path else "")


def _backward_of(node: Node, needs: tuple[bool, ...], gradients: list[Any], wrap: Callable[..., Any] | None) -> Any:
    """Run the backward text of one node: on arrays, or with `wrap` on Tensors, recorded in the layer of the node."""
    saved = node.saved
    if saved is RELEASED:
        raise GraphError(_place(node), got="a graph whose saved arrays an earlier backward has freed",
                         wanted="them still held", hint="Pass retain_graph=True to the earlier call")
    if newest_write() > node.seq:
        _check_saved(node)
    try:
        if wrap is None:
            grads = node.op.run_backward(saved, needs, *gradients)
        else:
            with switch(scope=node.scope):
                grads = node.op.backward(_lift(node, wrap), needs, *gradients)
    except Exception as error:
        with switch(scope=node.scope):
            raise explain(node.op, [value(g) for g in (*saved, *gradients)], error, "backward of ") from error
    like = node.like
    return grads if like is None else [restore(g, w) for g, w in zip(grads, like)]


def _hooked(edge: Any, gradient: Any, wrap: Callable[..., Any], create_graph: bool) -> Any:
    """The gradient after the hooks of its edge have seen it."""
    for hook in hooks.at(edge):
        seen = gradient if create_graph else wrap(as_array(gradient))
        replaced = hook(seen)
        if replaced is not None:
            if replaced.shape != seen.shape:
                raise ShapeError("gradient hook", got=f"a gradient of shape {replaced.shape}", wanted=f"{seen.shape}")
            gradient = replaced if create_graph else replaced.data
    return gradient


def _run(pending: dict[Any, Any], create_graph: bool, retain: bool, wrap: Callable[..., Any],
         wanted: frozenset[Any] = frozenset(), useful: dict[Node, tuple[bool, ...]] | None = None) -> dict[Any, Any]:
    """Send the gradients filed under `pending` to the leaves, and return what arrives there and at `wanted` edges.

    A node is queued when its first gradient is filed and runs when no newer node is left, so it sees its total.
    """
    heap: list[tuple[int, Node]] = []
    queued: set[Node] = set()
    arrived: dict[Any, Any] = {}
    watched = bool(hooks)

    def queue(edge: Any) -> None:
        node = node_of(edge)
        if node is not None and node not in queued:
            queued.add(node)
            heappush(heap, (-node.seq, node))

    for edge in pending:
        queue(edge)
    mode = current()
    observers = mode.observers
    token = enter(mode.replace(recording=create_graph))
    try:
        while heap:
            node = heappop(heap)[1]
            op = node.op
            if op.n_out == 1:
                gradients = [pending.pop(node)]
            else:
                gradients = [pending.pop(node, None), *(pending.pop((node, k), None) for k in range(1, op.n_out))]
            if watched or wanted:
                for k, gradient in enumerate(gradients):
                    edge = (node, k) if k else node
                    if gradient is not None and watched:
                        gradients[k] = gradient = _hooked(edge, gradient, wrap, create_graph)
                    if edge in wanted:
                        arrived[edge] = gradient
            needs = node.needs if useful is None else useful.get(node)
            if needs is None:
                continue
            grads = _backward_of(node, needs, gradients, wrap if create_graph else None)
            if not retain and node.saved:
                node.saved = RELEASED
            for observer in observers:
                observer.backward(node, gradients, grads)
            for edge, need, gradient in zip(node.edges, needs, grads):
                if not need or gradient is None:
                    continue
                if edge in pending:
                    pending[edge] = pending[edge] + gradient  # never in place: one array may be filed twice
                else:
                    pending[edge] = gradient
                    queue(edge)
        for leaf, gradient in pending.items():
            live = watched and gradient is not None
            arrived[leaf] = _hooked(leaf, gradient, wrap, create_graph) if live else gradient
    finally:
        leave(token)
    return arrived


def _useful(starts: Sequence[Any], wanted: frozenset[Any], since: int = 0) -> dict[Node, tuple[bool, ...]]:
    """The nodes on a way from `starts` to a wanted edge, each with the inputs that lie on such a way."""
    useful: dict[Node, tuple[bool, ...]] = {}
    for node in walk(starts, since):
        needs = tuple([e is not None and (e in wanted or node_of(e) in useful) for e in node.edges])
        if any(needs):
            useful[node] = needs
    return useful


def _edge(tensor: Any) -> Any:
    """The key under which a Tensor's gradient is filed."""
    return tensor if tensor.edge is None else tensor.edge


def _seed(output: Any, gradient: Any, create_graph: bool, where: str) -> Any:
    """The gradient that backward starts with at one output, checked."""
    array = output.data
    if not output.requires_grad:
        raise GraphError(where, got=f"an output of shape {output.shape} that does not require a gradient",
                         wanted="one computed from a Tensor with requires_grad=True, outside no_grad()")
    if gradient is None:
        if array.size != 1:
            raise GraphError(where, got=f"an output of shape {output.shape} and no gradient for it",
                             wanted="a scalar output, or its gradient as an argument")
        made = namespace(array).ones_like(array)
        return output.wrap(made) if create_graph else made
    if not isinstance(gradient, Traced) and not is_array(gradient):
        raise DtypeError(where, got=f"a gradient of type {type(gradient).__name__}", wanted="a Tensor or an array")
    if tuple(gradient.shape) != tuple(array.shape):
        raise ShapeError(where, got=f"a gradient of shape {tuple(gradient.shape)}",
                         wanted=f"the output's shape, {tuple(array.shape)}")
    if not isinstance(gradient, Traced):
        gradient = output.wrap(gradient)
    if gradient.dtype != array.dtype:
        gradient = gradient.astype(array.dtype)
    return gradient if create_graph else gradient.data


# ------------------------------------------------------------------ what users call


def backward(output: Any, gradient: Any = None, create_graph: bool = False, retain_graph: bool | None = None) -> None:
    """Add the gradient of `output` to the `.grad` of every leaf it was computed from (see `Tensor.backward`)."""
    retain = create_graph if retain_graph is None else retain_graph
    wrap = output.wrap
    start = _seed(output, gradient, create_graph, "backward")
    owners = set() if create_graph else {id(memory(start)[0])}
    for leaf, total in _run({_edge(output): start}, create_graph, retain, wrap).items():
        if node_of(leaf) is not None or total is None:
            continue
        if create_graph:
            leaf.grad = total if leaf.grad is None else leaf.grad + total
        elif leaf.grad is None:
            leaf.grad = wrap(_alone(_owned(total), owners))
        else:
            with no_grad():
                leaf.grad = leaf.grad + wrap(as_array(total))


def _owned(array: Any) -> Any:
    """The array, copied if its elements share memory (a broadcast): a gradient can be written to."""
    array = as_array(array)
    return array if array.flags.c_contiguous or array.flags.f_contiguous else array.copy()


def _alone(array: Any, owners: set[int]) -> Any:
    """The array, copied if it lives in memory that one of `owners` also gives out: each `.grad` may be written to."""
    owner = id(memory(array)[0])
    if owner in owners:
        return array.copy()
    owners.add(owner)
    return array


def _as_tuple(x: Any) -> tuple[Any, ...]:
    return tuple(x) if isinstance(x, (tuple, list)) else (x,)


def grad(outputs: Any, inputs: Any, grad_outputs: Any = None, create_graph: bool = False,
         retain_graph: bool | None = None, allow_unused: bool = False, *, since: int = 0) -> tuple[Any, ...]:
    """Gradients of `outputs` with respect to `inputs`, as `torch.autograd.grad` gives them; no `.grad` is touched.

    Parameters
    ----------
    outputs, inputs : Tensor or sequence of Tensors
        Inputs may be leaves or results of operations.
    grad_outputs : Tensor, array, or sequence of them or None
        The gradient to start with at each output, of its shape; None for a scalar output means 1.
    create_graph : bool
        Record the backward pass, so that its results can be differentiated again.
    retain_graph : bool, optional
        Keep what the graph has saved, for another backward. The default is `create_graph`.
    allow_unused : bool
        Give None for an input that the outputs do not depend on, instead of refusing.
    since : int
        Do not follow the graph into nodes made before this tick of the clock: the gradient of an input is then that
        through newer nodes alone. For operations whose backward differentiates a part of the graph.

    Returns
    -------
    tuple of Tensor
        One for each input, of its shape and dtype.

    Raises
    ------
    GraphError
        An output or input does not require a gradient, an input is unused, or the graph was freed or changed in place.
    ShapeError
        A gradient in `grad_outputs` does not have its output's shape.
    """
    ys, xs = _as_tuple(outputs), _as_tuple(inputs)
    seeds = (None,) * len(ys) if grad_outputs is None else _as_tuple(grad_outputs)
    if not ys:
        raise GraphError("grad", got="no outputs", wanted="at least one")
    if len(seeds) != len(ys):
        raise ShapeError("grad", got=f"{len(seeds)} grad_outputs", wanted=f"one for each of {len(ys)} outputs")
    for i, x in enumerate(xs):
        if not x.requires_grad:
            raise GraphError("grad", got=f"input {i} of shape {x.shape}, which does not require a gradient",
                             wanted="requires_grad=True before the outputs were computed")
    pending: dict[Any, Any] = {}
    for y, g in zip(ys, seeds):
        edge, seed = _edge(y), _seed(y, g, create_graph, "grad")
        pending[edge] = seed if edge not in pending else pending[edge] + seed
    edges = [_edge(x) for x in xs]
    wanted = frozenset(edges)
    retain = create_graph if retain_graph is None else retain_graph
    wrap = ys[0].wrap
    arrived = _run(pending, create_graph, retain, wrap, wanted, _useful(list(pending), wanted, since))
    found = [arrived.get(edge) for edge in edges]
    for i, (x, g) in enumerate(zip(xs, found)):
        if g is None and not allow_unused:
            raise GraphError("grad", got=f"input {i} of shape {x.shape}, on which no output depends",
                             wanted="inputs that were used", hint="allow_unused=True gives None for it")
    return tuple([g if g is None or create_graph else wrap(_owned(g)) for g in found])


def _outputs(function: Callable[..., Any], xs: tuple[Any, ...]) -> Any:
    """What a function returns, recorded even inside no_grad(): a derivative was asked for."""
    with switch(recording=True):
        return function(*xs)


def _leaves(inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """Tensors to differentiate with respect to: those that require a gradient, and copies of the others that do."""
    return tuple(x if x.requires_grad else x.detach().requires_grad_() for x in inputs)


def vjp(function: Callable[..., Any], inputs: Any, cotangents: Any = None,
        create_graph: bool = False) -> tuple[Any, Any]:
    """The value of a function, and the product of a row vector with its Jacobian: ``vᵀ · ∂f/∂x``.

    Parameters
    ----------
    function : callable
        Takes Tensors, returns a Tensor or a tuple of them.
    inputs : Tensor or tuple of Tensors
    cotangents : Tensor or tuple of Tensors, optional
        v, of the outputs' shapes; may be left out for a scalar output.
    create_graph : bool
        Let the product be differentiated again.

    Returns
    -------
    outputs, products : each as `function` and `inputs` are: a Tensor, or a tuple of Tensors
        An input without influence has the product 0.
    """
    xs = _leaves(_as_tuple(inputs))
    outputs = _outputs(function, xs)
    ys = _as_tuple(outputs)
    found = grad(ys, xs, cotangents, create_graph, allow_unused=True)
    products = tuple([x.zeros_like() if g is None else g for x, g in zip(xs, found)])
    return outputs, products if isinstance(inputs, (tuple, list)) else products[0]


def jvp(function: Callable[..., Any], inputs: Any, tangents: Any, create_graph: bool = False) -> tuple[Any, Any]:
    """The value of a function, and the product of its Jacobian with a column vector: ``∂f/∂x · v``.

    A vjp is linear in its cotangent u, so the jvp is the derivative of the vjp with respect to u, taken along v: no
    operation needs a forward rule. Calls may be nested.

    Parameters
    ----------
    function : callable
        Takes Tensors, returns a Tensor or a tuple of them.
    inputs, tangents : Tensor or tuple of Tensors
        x and v, of equal shapes.
    create_graph : bool
        Let the product be differentiated again.

    Returns
    -------
    outputs, products : each as `function` returns them
    """
    xs, vs = _leaves(_as_tuple(inputs)), _as_tuple(tangents)
    if [tuple(x.shape) for x in xs] != [tuple(v.shape) for v in vs]:
        raise ShapeError("jvp", got=f"tangents of shapes {[tuple(v.shape) for v in vs]}",
                         wanted=f"those of the inputs, {[tuple(x.shape) for x in xs]}")
    outputs = _outputs(function, xs)
    ys = _as_tuple(outputs)
    live = [i for i, y in enumerate(ys) if y.requires_grad]
    dummies = {i: ys[i].zeros_like().requires_grad_() for i in live}
    products = [y.zeros_like() for y in ys]
    if live:
        rows = grad([ys[i] for i in live], xs, list(dummies.values()), create_graph=True, allow_unused=True)
        used = [(row, v) for row, v in zip(rows, vs) if row is not None and row.requires_grad]
        if used:
            found = grad([row for row, _ in used], list(dummies.values()), [v for _, v in used], create_graph,
                         retain_graph=True, allow_unused=True)
            for i, product in zip(live, found):
                products[i] = products[i] if product is None else product
    return outputs, tuple(products) if isinstance(outputs, (tuple, list)) else products[0]
