"""Differentiation: one loop over the recorded nodes, newest first, for arrays and for Tensors alike.

Without `create_graph` the loop hands raw arrays to `Op.backward`; with it, Tensors that carry the history of what was
saved, so that the same text records a graph of itself. Nodes made in a backward pass have higher numbers than those of
the forward pass, so the same order serves every derivative of every order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from heapq import heapify, heappop, heappush, heappushpop
from typing import Any

from minigrad import versions
from minigrad.backend import as_array, astype, copied, is_array, memory, namespace, ndarray
from minigrad.errors import DtypeError, GraphError, ShapeError
from minigrad.graph import RELEASED, Node, Retained, hooks, node_of, walk
from minigrad.modes import current, enter, layer_path, leave, switch
from minigrad.op import Traced, beside, refuse, restore, returned, value
from minigrad.versions import written

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


def _place(node: Node) -> str:
    path = layer_path(node.scope)
    return f"backward of {node.op!r}" + (f" in layer {path}" if path else "")


def _check_saved(node: Node) -> None:
    """Refuse to differentiate with arrays that were freed, or changed in place after they were saved."""
    if node.saved is RELEASED:
        raise GraphError(_place(node), got="a graph whose saved arrays an earlier backward has freed",
                         wanted="them still held",
                         hint="Pass retain_graph=True to the earlier call; one that failed has freed a part, too")
    for (kind, i, _), array in zip(node.op.keeps, node.saved):
        if is_array(array) and written(array) > node.seq:
            raise GraphError(
                _place(node), got=f"{kind} {i} of shape {tuple(array.shape)}, changed in place after it was saved",
                wanted="the values of the forward pass",
                hint="Call backward before the optimizer's step or assign(), or keep a clone()")


def _restored(node: Node, grads: tuple[Any, ...], like: tuple[Any, ...]) -> tuple[Any, ...]:
    """The gradients summed and cast to shape and dtype of their inputs; refused where they cannot be."""
    found = []
    for i, (gradient, wanted) in enumerate(zip(grads, like)):
        try:
            if gradient is not None and wanted is not None:
                if gradient.shape != wanted[0] and not node.op.broadcasts:
                    raise ValueError
                if gradient.shape != wanted[0] or gradient.dtype is not wanted[1]:
                    gradient = restore(gradient, wanted)
            found.append(gradient)
        except (ValueError, IndexError, AttributeError) as error:
            shape = getattr(gradient, "shape", None)
            raise ShapeError(_place(node), got=f"a gradient of shape {shape} for input {i}",
                             wanted=f"the input's, {wanted[0]}") from error
    return tuple(found)


def _backward_of(node: Node, needs: tuple[bool, ...], gradients: Any, wrap: Callable[..., Any] | None) -> Any:
    """Run the backward text of one node: on arrays, or with `wrap` on Tensors, recorded in the layer of the node."""
    op, saved, like = node.op, node.saved, node.like
    if saved is RELEASED or versions.newest > node.seq:
        _check_saved(node)
    try:
        if wrap is None:  # spreading a list of one costs as much as the call
            one = len(gradients) == 1
            grads = op.run_backward(saved, needs, gradients[0]) if one else op.run_backward(saved, needs, *gradients)
        else:
            with switch(scope=node.scope):
                grads = op.backward(_lift(node, wrap), needs, *gradients)
    except Exception as error:
        with switch(scope=node.scope):
            refuse(op, [value(g) for g in (*saved, *gradients)], error, "backward of ")
        raise
    if grads.__class__ is not tuple or len(grads) != len(needs):
        raise GraphError(_place(node), got=f"{returned(grads)} from its text",
                         wanted=f"a tuple of {len(needs)}: for each input its gradient or None")
    return grads if like is None else _restored(node, grads, like)


def _hooked(edge: Any, gradient: Any, wrap: Callable[..., Any], create_graph: bool,
            retained: list[tuple[Any, Any]] | None) -> Any:
    """The gradient after the hooks of its edge have seen it; with its Tensor in `retained` if that keeps its own."""
    for hook in hooks.at(edge):
        if hook.__class__ is Retained:
            continue
        seen = gradient if create_graph else wrap(as_array(gradient))
        replaced = hook(seen)
        if replaced is None:
            continue
        if replaced.__class__ is not seen.__class__ and not isinstance(replaced, Traced):
            raise DtypeError("gradient hook", got=f"a gradient of type {type(replaced).__name__}",
                             wanted="a Tensor or None")
        if replaced.shape != seen.shape:
            raise ShapeError("gradient hook", got=f"a gradient of shape {replaced.shape}", wanted=f"{seen.shape}")
        gradient = replaced if create_graph else replaced.data
    if retained is not None:
        owners = [hook.of() for hook in hooks.at(edge) if isinstance(hook, Retained)]
        retained.extend([(tensor, gradient) for tensor in owners if tensor is not None])
    return gradient


def _tell(observers: tuple[Any, ...], node: Node, gradients: Any, grads: Any) -> None:
    """Tell the observers of a node's backward. What they compute themselves is neither recorded nor observed."""
    with switch(recording=False, observers=()):
        for observer in observers:
            observer.backward(node, gradients, grads)


def _among(wanted: frozenset[Any], node: Node, gradients: list[Any]) -> dict[Any, Any]:
    """The gradients of a node's outputs that are wanted, by their edges."""
    return {edge: g for k, g in enumerate(gradients) if (edge := (node, k) if k else node) in wanted}


def _queued(pending: dict[Any, Any]) -> tuple[list[tuple[int, Node]], set[Any]]:
    """The nodes that have a gradient, newest first, and those of them that have one for a further output."""
    heap: list[tuple[int, Node]] = []
    ported: set[Any] = set()
    for edge in pending:
        if edge.__class__ is tuple:
            edge = edge[0]
            ported.add(edge)
        if edge.__class__ is Node:
            heap.append((-edge.seq, edge))
    heapify(heap)
    return heap, ported


def _run(pending: dict[Any, Any], create_graph: bool, retain: bool, wrap: Callable[..., Any],
         wanted: frozenset[Any] = frozenset(), useful: dict[Node, tuple[bool, ...]] | None = None,
         retained: list[tuple[Any, Any]] | None = None) -> dict[Any, Any]:
    """Send the gradients filed under `pending` to the leaves, and return what arrives there and at `wanted` edges.

    A node is queued when its first gradient is filed and runs when no newer node is left, so it sees its total.
    """
    heap, ported = _queued(pending)
    arrived: dict[Any, Any] = {}
    watched = bool(hooks)
    lift = wrap if create_graph else None
    mode = current()
    observers = mode.observers
    token = enter(mode.recorded(create_graph))
    try:
        fresh: Node | None = None  # found last and not queued yet: in a chain it is the next, and no queue is needed
        while heap or fresh is not None:
            if fresh is None:
                node = heappop(heap)[1]
            else:
                node, fresh = heappushpop(heap, (-fresh.seq, fresh))[1] if heap else fresh, None
            n_out = node.op.n_out
            gradients = [pending.pop(node, None)]
            if n_out > 1:
                if node in ported:
                    gradients += [pending.pop((node, k), None) for k in range(1, n_out)]
                    if all(g is None for g in gradients):
                        continue  # queued once for each of its outputs, it has run already
                else:
                    gradients += [None] * (n_out - 1)
            if watched:
                gradients = [g if g is None else _hooked((node, k) if k else node, g, wrap, create_graph, retained)
                             for k, g in enumerate(gradients)]
            if wanted:
                arrived.update(_among(wanted, node, gradients))
            needs, edges = node.needs, node.edges
            if useful is not None:
                if node not in useful:
                    continue
                needs = useful[node]
                edges = tuple([edge if need else None for edge, need in zip(edges, needs)])
            grads = _backward_of(node, needs, gradients, lift)
            if not retain and node.saved:
                node.saved = RELEASED
            if observers:
                _tell(observers, node, gradients, grads)
            for edge, gradient in zip(edges, grads):
                if edge is None or gradient is None:
                    continue
                if edge in pending:
                    pending[edge] = pending[edge] + gradient  # never in place: one array may be filed twice
                    continue
                pending[edge] = gradient
                if edge.__class__ is tuple:
                    edge = edge[0]
                    ported.add(edge)
                if edge.__class__ is Node:
                    if fresh is not None:
                        heappush(heap, (-fresh.seq, fresh))
                    fresh = edge
        if watched:
            pending = {leaf: g if g is None else _hooked(leaf, g, wrap, create_graph, None)
                       for leaf, g in pending.items()}
        arrived.update(pending)
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
    is_tensor = isinstance(output, Traced)  # by a name: mypy would take `output` for no more than that
    if not is_tensor:
        raise DtypeError(where, got=f"an output of type {type(output).__name__}", wanted="a Tensor")
    array = output.data
    if gradient.__class__ is output.__class__ and not create_graph and output.requires_grad:
        given = gradient.data
        if given.shape == array.shape and given.dtype is array.dtype:  # the usual case: nothing to mend or to refuse
            return given
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
        gradient = output.wrap(beside(gradient, array))
    if gradient.dtype != array.dtype:
        with switch(recording=create_graph):
            gradient = gradient.astype(array.dtype)
    return gradient if create_graph else gradient.data


# ------------------------------------------------------------------ what users call


def backward(output: Any, gradient: Any = None, create_graph: bool = False, retain_graph: bool | None = None) -> None:
    """Add the gradient of `output` to the `.grad` of every leaf it was computed from (see `Tensor.backward`)."""
    retain = create_graph if retain_graph is None else retain_graph
    start = _seed(output, gradient, create_graph, "backward")
    kept: list[tuple[Any, Any]] = []
    leaves = _run({_edge(output): start}, create_graph, retain, output.wrap, retained=kept)
    owners = {id(start if start.__class__ is ndarray and start.base is None else memory(value(start))[0])}
    graph = current().graph
    if graph is not None:
        graph.differentiated([tensor for tensor, total in (*kept, *leaves.items()) if total is not None])
    for tensor, total in (*kept, *leaves.items()) if kept else leaves.items():
        if total is None:
            continue
        result = _result(tensor, total, create_graph, owners)
        if tensor.grad is None:
            tensor.grad = result
        else:
            with switch(recording=create_graph):
                tensor.grad = tensor.grad + result


def _result(tensor: Any, total: Any, create_graph: bool, owners: set[int]) -> Any:
    """The gradient of a Tensor, in its dtype, as a Tensor for the user to keep: refused if it has another shape.

    It may be written to: an array is copied if it is read-only, if its own elements share memory, or if its memory is
    among that of `owners`, which have been given out already.
    """
    data = tensor.data
    if total.shape != data.shape:
        raise ShapeError("backward", got=f"a gradient of shape {tuple(total.shape)} for a Tensor of {tensor.shape}",
                         wanted="equal shapes")
    if total.__class__ is ndarray and total.dtype is data.dtype:
        whole: Any = total if total.base is None else total.base
        flags = total.flags
        if (flags.forc and flags.writeable and whole.__class__ is ndarray and whole.base is None
                and whole.size == total.size and id(whole) not in owners):  # the usual case: memory of its own
            owners.add(id(whole))
            return tensor.wrap(total)
    if create_graph:
        if total.dtype == tensor.dtype:
            return total
        with switch(recording=True):
            return total.astype(tensor.dtype)
    array = astype(as_array(total), tensor.dtype)
    flags, owner = array.flags, id(memory(array)[0])
    dense = flags.c_contiguous or flags.f_contiguous
    if owner in owners or not dense or (isinstance(array, ndarray) and not flags.writeable):
        return tensor.wrap(copied(array))
    owners.add(owner)
    return tensor.wrap(array)


def _as_tuple(x: Any) -> tuple[Any, ...]:
    """One Tensor or any number of them, as a tuple."""
    return (x,) if isinstance(x, Traced) or not hasattr(x, "__iter__") or is_array(x) else tuple(x)


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
    check_tensors(xs, "grad")
    for i, x in enumerate(xs):
        if not x.requires_grad:
            raise GraphError("grad", got=f"input {i} of shape {x.shape}, which does not require a gradient",
                             wanted="requires_grad=True before the outputs were computed")
    pending: dict[Any, Any] = {}
    owners = set()
    for y, g in zip(ys, seeds):
        seed = _seed(y, g, create_graph, "grad")
        edge = _edge(y)
        owners.add(id(memory(value(seed))[0]))
        if edge in pending:
            with switch(recording=create_graph):
                seed = pending[edge] + seed
        pending[edge] = seed
    edges = [_edge(x) for x in xs]
    wanted = frozenset(edges)
    useful = _useful(list(pending), wanted, since)
    if not allow_unused:
        reached = {*pending, *[edge for node in useful for edge in node.edges]}
        _check_used(xs, [edge in reached for edge in edges])
    retain = create_graph if retain_graph is None else retain_graph
    arrived = _run(pending, create_graph, retain, ys[0].wrap, wanted, useful)
    found = [arrived.get(edge) for edge in edges]
    if not allow_unused:
        _check_used(xs, [g is not None for g in found])
    with switch(recording=create_graph):
        return tuple([None if g is None else _result(x, g, create_graph, owners) for x, g in zip(xs, found)])


def check_tensors(xs: tuple[Any, ...], where: str, what: str = "input", arrays: bool = False) -> None:
    """Refuse what is no Tensor, nor with `arrays` an array."""
    for i, x in enumerate(xs):
        if not isinstance(x, Traced) and not (arrays and is_array(x)):
            raise DtypeError(where, got=f"{what} {i} of type {type(x).__name__}",
                             wanted="a Tensor or an array" if arrays else "a Tensor")


def _check_used(xs: tuple[Any, ...], used: list[bool]) -> None:
    for i, (x, is_used) in enumerate(zip(xs, used)):
        if not is_used:
            raise GraphError("grad", got=f"input {i} of shape {x.shape}, on which no output depends",
                             wanted="inputs that were used", hint="allow_unused=True gives None for it")


def outputs_of(function: Callable[..., Any], xs: tuple[Any, ...], where: str) -> Any:
    """What a function returns, one Tensor or several, recorded even inside no_grad(): a derivative was asked for."""
    with switch(recording=True):
        found = function(*xs)
    check_tensors(_as_tuple(found), where, "output")
    return found


def leaves_of(inputs: Any, create_graph: bool, where: str) -> tuple[Any, ...]:
    """A Tensor of its own for each input: what else the function sees of them, by closure or twice, is constant.

    With `create_graph` they stay connected to the inputs.
    """
    xs = _as_tuple(inputs)
    check_tensors(xs, where)
    with switch(recording=True):
        return tuple([x.reshape(x.shape) if create_graph and x.requires_grad else x.detach().requires_grad_()
                      for x in xs])


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
        An input without influence has the product 0. What the function knows of `inputs` by another way than its
        arguments is held constant, as in torch.autograd.functional.
    """
    xs = leaves_of(inputs, create_graph, "vjp")
    outputs = outputs_of(function, xs, "vjp")
    ys = _as_tuple(outputs)
    us = (None,) * len(ys) if cotangents is None else _as_tuple(cotangents)
    if len(us) != len(ys):
        raise ShapeError("vjp", got=f"{len(us)} cotangents", wanted=f"one for each of {len(ys)} outputs")
    live = [(y, u) for y, u in zip(ys, us) if y.requires_grad]
    found: tuple[Any, ...] = (None,) * len(xs)
    if live:
        found = grad([y for y, _ in live], xs, [u for _, u in live], create_graph, allow_unused=True)
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
    xs, vs = leaves_of(inputs, create_graph, "jvp"), _as_tuple(tangents)
    check_tensors(vs, "jvp", "tangent", arrays=True)
    if [tuple(x.shape) for x in xs] != [tuple(v.shape) for v in vs]:
        raise ShapeError("jvp", got=f"tangents of shapes {[tuple(v.shape) for v in vs]}",
                         wanted=f"those of the inputs, {[tuple(x.shape) for x in xs]}")
    outputs = outputs_of(function, xs, "jvp")
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
