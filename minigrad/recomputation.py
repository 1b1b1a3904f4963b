"""Gradient checkpointing: a function's intermediate results are not held for backward but computed a second time.

The second run must do what the first did. Generators of random numbers are put back to where they were, so dropout
masks are the same; layers are told (`modes.Mode.recomputing`), so running statistics are committed once; and whatever
the function took from outside, parameters and buffers, must not have changed.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any, ClassVar

from minigrad.backend import is_array, is_floating
from minigrad.engine import grad
from minigrad.errors import DtypeError, GraphError
from minigrad.modes import current, no_grad, switch
from minigrad.observers import Observer
from minigrad.op import Op, apply, inputs
from minigrad.ops.random import replayed, snapshot
from minigrad.tensor import Tensor
from minigrad.versions import tick, written

__all__ = ["recompute"]


class _Taken(Observer):
    """What a function took from outside itself: Tensors that need a gradient, and the arrays of all others.

    made : weak references to the Tensors that it was given or its own operations made, by identity
    live : the Tensors from outside that need a gradient
    fixed : the others, each with the array it had
    steps : the operations, by name
    """

    def __init__(self, arguments: tuple[Any, ...]) -> None:
        self.made = {id(a): weakref.ref(a) for a in arguments}
        self.live: dict[int, Tensor] = {}
        self.fixed: dict[int, tuple[Tensor, Any]] = {}
        self.steps: list[str] = []

    def forward(self, op: Any, node: Any, scope: Any, inputs: Any, outputs: Any) -> None:
        if not isinstance(op, Recompute):  # whose parts are heard too
            self.steps.append(op.name)
        for x in inputs:
            if isinstance(x, Tensor):
                reference = self.made.get(id(x))
                if reference is not None and reference() is x:
                    continue
                if x.requires_grad:
                    self.live[id(x)] = x
                else:
                    self.fixed[id(x)] = (x, x.data)
        for y in outputs:
            self.made[id(y)] = weakref.ref(y)


class Recompute(Op):
    """(y₀, y₁, …) = f(x₀, x₁, …);   backward runs f again, recorded, and differentiates what it recorded

    The inputs are the Tensors given to f, then those that f takes from outside and that need a gradient.
    """

    __slots__ = ("_run", "_results")
    variants: ClassVar[dict[tuple[int, int], type[Recompute]]] = {}

    def __init__(self, run, results):
        self._run, self._results = run, results

    def forward(self, *arrays):
        results, self._results = self._results, None  # f has run already: what it takes had to be known
        results = self._run.opened(arrays) if results is None else results  # a later run is one on Tensors, to open it
        return results if self.several else results[0]

    def backward(self, saved, needs, *gradients):
        return self._run.gradients(saved, needs, gradients)

    @property
    def name(self):
        return f"Recompute({self._run.title})"

    def __repr__(self):
        return self.name

    @classmethod
    def variant(cls, n_in: int, n_out: int) -> type[Recompute]:
        """The class for so many inputs and outputs: the engine reads their numbers from the class."""
        if (n_in, n_out) not in cls.variants:
            facts = {"__slots__": (), "n_out": n_out, "keeps": inputs(*range(n_in))}
            cls.variants[n_in, n_out] = type("Recompute", (cls,), facts)
        return cls.variants[n_in, n_out]


class _Run:
    """One call of `recompute`: everything that running it again takes."""

    def __init__(self, function: Callable[..., Any], arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
        self.function, self.options = function, options
        self.title = getattr(function, "__name__", type(function).__name__)
        self.places = [i for i, a in enumerate(arguments) if isinstance(a, Tensor)]
        self.plain = [None if isinstance(a, Tensor) else a for a in arguments]
        self.scope, self.autocast, self.seq = current().scope, current().autocast, tick()

    def call(self, tensors: Any) -> Any:
        arguments = list(self.plain)
        for i, t in zip(self.places, tensors):
            arguments[i] = t
        return self.function(*arguments, **self.options)

    def first(self, tensors: list[Tensor]) -> Any:
        """Run without a graph, and watch what is taken from outside."""
        copies = [t.detach().requires_grad_(t.requires_grad) for t in tensors]
        taken = _Taken(tuple(copies))
        self.random = snapshot()
        with no_grad(), switch(observers=(*current().observers, taken)):
            outputs = self.call(copies)
        self.random = self.random.used()
        self.steps, self.fixed, self.live = tuple(taken.steps), list(taken.fixed.values()), list(taken.live.values())
        self.held = len(tensors)
        return outputs

    def opened(self, tensors: Any) -> tuple[Any, ...]:
        """Run again, in the graph around it: the operations that the one on the graph stands for."""
        self._check_fixed()
        if any(given.data is not tensor.data for given, tensor in zip(tensors[self.held :], self.live)):
            raise GraphError(f"recompute of {self.title}", got="a parameter that has changed, or another in its place",
                             wanted="those of the first run")
        with replayed(self.random), switch(recomputing=True, autocast=self.autocast):
            outputs = self.call(tensors[: self.held])
        return tuple(y for y in _several(outputs) if is_floating(y.dtype))

    def gradients(self, saved: Any, needs: Any, gradients: Any) -> Any:
        """Run again with a graph and differentiate; on arrays, or on Tensors whose history then goes on."""
        recorded = any(isinstance(s, Tensor) for s in (*saved, *gradients))
        self._check_fixed()
        given = [s if isinstance(s, Tensor) else Tensor.wrap(s) for s in saved[: self.held]]
        if not recorded:
            given = [t.requires_grad_(need) for t, need in zip(given, needs)]
        taken, start = _Taken(tuple(given)), tick()
        with replayed(self.random), switch(recording=True, recomputing=True, scope=self.scope, observers=(taken,),
                                           autocast=self.autocast):
            outputs = self.call(given)
        if tuple(taken.steps) != self.steps:
            raise GraphError(f"recompute of {self.title}", got="other operations than in the first run",
                             wanted="the same ones", hint="Does it depend on a mode or on state that has changed?")
        ys = [y for y in _several(outputs) if is_floating(y.dtype)]
        pairs = [(y, g) for y, g in zip(ys, gradients) if g is not None and y.requires_grad]
        wanted = [x for x, need in zip((*given, *self.live), needs) if need]
        if not pairs:
            return (None,) * len(needs)
        found = iter(grad([y for y, _ in pairs], wanted, [g for _, g in pairs], create_graph=recorded,
                          allow_unused=True, since=start))
        results = [next(found) if need else None for need in needs]
        return tuple(r if recorded or r is None else r.data for r in results)

    def _check_fixed(self) -> None:
        """Refuse if a buffer, a frozen parameter or another constant that was taken from outside has changed."""
        for tensor, array in self.fixed:
            if tensor.data is not array or (is_array(array) and written(array) > self.seq):
                what = type(tensor).__name__.lower()
                raise GraphError(f"recompute of {self.title}", got=f"a {what} of shape {tensor.shape} that has changed",
                                 wanted="the values of the first run",
                                 hint="Call backward before anything it uses is updated")


def _several(outputs: Any) -> tuple[Any, ...]:
    return tuple(outputs) if isinstance(outputs, (tuple, list)) else (outputs,)


def recompute(function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """``function(*arguments, **options)``, whose intermediate results are computed again in backward instead of held.

    Backward then costs one more forward pass of the function, and until then only its inputs and outputs are held.
    Values and derivatives of every order are those of a plain call: dropout draws the same masks again, running
    statistics are committed once, `create_graph` works.

    Parameters
    ----------
    function : callable
        A layer, or anything that takes Tensors and returns a Tensor or a tuple of them. Parameters and other Tensors
        that it takes from outside itself receive their gradients. It must do the same when it is run again: random
        numbers have to come from a `minigrad.Generator`.
    *arguments
        Tensors, and whatever else it takes.
    **options
        Passed on; a Tensor among them counts as taken from outside.

    Returns
    -------
    As the function returns them: a Tensor or a tuple.

    Raises
    ------
    GraphError
        In backward: a parameter, buffer or input has changed since, or the second run took other operations.
    DtypeError
        The function returned something that is not a Tensor.

    Notes
    -----
    Observers hear the first run, and see it as one operation with a gradient; `minigrad.expansion.expand` opens that.

    References
    ----------
    T. Chen, B. Xu, C. Zhang & C. Guestrin, "Training deep nets with sublinear memory cost", arXiv:1604.06174.

    Examples
    --------
    >>> import minigrad
    >>> from minigrad.layers import BatchNorm1d, Linear, Sequential
    >>> block = Sequential(Linear(3, 3), BatchNorm1d(3))
    >>> y = minigrad.recompute(block, minigrad.ones(4, 3))
    >>> y.node.op
    Recompute(Sequential)
    >>> y.sum().backward()
    >>> block[1].num_batches_tracked.item()
    1
    """
    if not current().recording:
        return function(*arguments, **options)
    run = _Run(function, arguments, options)
    tensors = [a for a in arguments if isinstance(a, Tensor)]
    outputs = run.first(tensors)
    made = _several(outputs)
    for y in made:
        if not isinstance(y, Tensor):
            raise DtypeError(f"recompute of {run.title}", got=f"a result of type {type(y).__name__}", wanted="Tensors")
    floating = [y.data for y in made if is_floating(y.dtype)]
    if not floating:
        return outputs
    kind = Recompute.variant(len(tensors) + len(run.live), len(floating))
    results = apply(kind(run, tuple(floating)), *tensors, *run.live)
    recorded = iter(_several(results))
    final = tuple(next(recorded) if is_floating(y.dtype) else y for y in made)
    return final if isinstance(outputs, (tuple, list)) else final[0]
