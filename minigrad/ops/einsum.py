"""Einstein summation, and outer products."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Sequence
from typing import Any

from minigrad.backend import namespace
from minigrad.errors import ArgumentError, ShapeError
from minigrad.op import Op, apply, inputs
from minigrad.ops.arithmetic import multiply
from minigrad.ops.elementwise import narrowed, widened
from minigrad.ops.reduction import sum
from minigrad.ops.shape import broadcast_to, permute_dims, reshape

__all__ = ["einsum", "outer"]

LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


class Einsum(Op):
    """z = Σ of Π x_k over the indices that z lacks;   gx_k = Σ of gz·Π of the others over the indices that x_k lacks

    Every operand has an index once, and each of its indices is also in another operand or in z: `einsum` sees to that,
    and so the gradient is again of this form.
    """

    __slots__ = ("terms", "result", "optimize")
    promotes = True

    def __init__(self, terms, result, optimize):
        self.terms, self.result, self.optimize = terms, result, optimize

    def forward(self, *xs):
        text = f"{','.join(self.terms)}->{self.result}"
        return _narrowed(namespace(*xs).einsum(text, *map(widened, xs), optimize=self.optimize), xs)

    def backward(self, saved, needs, gz):
        xp = namespace(gz)
        grads = []
        for k, term in enumerate(self.terms):
            others = [i for i in range(len(self.terms)) if i != k]
            text = f"{','.join([self.result, *(self.terms[i] for i in others)])}->{term}"
            factors = [gz, *(saved[i] for i in others)]
            grads.append(_narrowed(xp.einsum(text, *map(widened, factors), optimize=self.optimize), factors)
                         if needs[k] else None)
        return tuple(grads)


def _narrowed(z, xs):
    """`z` in the half type that all of `xs` have, else as it is."""
    return narrowed(z, xs[0].dtype) if len({x.dtype for x in xs}) == 1 else z


@functools.cache
def _of(count: int) -> type[Einsum]:
    """`Einsum` of so many operands: each is kept where the gradient of another is needed."""
    kept: tuple[Any, ...] = ()
    for i in range(count if count > 1 else 0):
        kept += inputs(i, when=tuple(k for k in range(count) if k != i))
    return type("Einsum", (Einsum,), {"__slots__": (), "__doc__": Einsum.__doc__, "keeps": kept})


def _parsed(subscripts: str, xs: Sequence[Any]) -> tuple[list[str], str]:
    """A term for each operand, and the result's: with letters in place of every ellipsis, checked."""
    left, arrow, result = subscripts.replace(" ", "").partition("->")
    terms = left.split(",")
    got = f"{subscripts!r} for shapes {', '.join(str(tuple(x.shape)) for x in xs)}"
    if len(terms) != len(xs):
        raise ArgumentError("einsum", got=got, wanted="a term for each operand")
    free = [letter for letter in LETTERS if letter not in subscripts]
    rests = [x.ndim - len(term.replace("...", "")) for term, x in zip(terms, xs)]
    if any(rest < 0 or (rest > 0 and "..." not in term) for term, rest in zip(terms, rests)):
        raise ShapeError("einsum", got=got, wanted="a letter for each axis, or ... for the others")
    dots = "".join(free[: max([r for t, r in zip(terms, rests) if "..." in t], default=0)])
    terms = [term.replace("...", dots[len(dots) - rest :]) for term, rest in zip(terms, rests)]
    if arrow:
        result = result.replace("...", dots)
    else:
        counts = Counter("".join(terms))
        result = dots + "".join(sorted(c for c in counts if counts[c] == 1 and c not in dots))
    known = set("".join(terms))
    if not set(result) <= known or len(set(result)) < len(result) or not known <= set(LETTERS):
        raise ArgumentError("einsum", got=got, wanted="a result of letters that the operands have, each once")
    return terms, result


def _sizes(subscripts: str, terms: list[str], xs: Sequence[Any]) -> dict[str, int]:
    """The length of every index; axes of length 1 are as long as the others of their letter."""
    sizes: dict[str, int] = {}
    for term, x in zip(terms, xs):
        for letter, n in zip(term, x.shape):
            known = sizes.setdefault(letter, n)
            if known == 1:
                sizes[letter] = n
            elif n not in (1, known):
                shapes = ", ".join(str(tuple(x.shape)) for x in xs)
                raise ShapeError("einsum", got=f"{subscripts!r} for shapes {shapes}",
                                 wanted=f"axes {letter!r} of one length")
    return sizes


def _diagonal(x: Any, term: str) -> tuple[Any, str]:
    """`x` with a letter that its term repeats once only: the diagonal of those two axes, as the first axis."""
    while len(set(term)) < len(term):
        letter = next(c for c in term if term.count(c) > 1)
        first, second = term.index(letter), term.rindex(letter)
        rest = [a for a in range(x.ndim) if a not in (first, second)]
        n = x.shape[first]
        x = permute_dims(x, (first, second, *rest))
        x = reshape(x, (n * n, *x.shape[2:]))[:: n + 1]
        term = letter + "".join(term[a] for a in rest)
    return x, term


def einsum(subscripts: str, *xs: Any, optimize: bool = True) -> Any:
    """Sums of products by Einstein's convention: ``einsum("ij,jk->ik", x, y)`` is the matrix product.

    Parameters
    ----------
    subscripts : str
        For each operand a letter per axis; after ``->`` the axes of the result, by default the letters that occur
        once, in alphabetical order. ``...`` stands for further axes, which broadcast. A letter twice in an operand
        takes its diagonal.
    *xs : arrays or Tensors
    optimize : bool
        Look for a fast order of products, as NumPy does.

    Raises
    ------
    ArgumentError, ShapeError
        The subscripts make no sense, or do not fit the shapes.
    """
    terms, result = _parsed(subscripts, xs)
    sizes = _sizes(subscripts, terms, xs)
    operands = []
    for k, x in enumerate(xs):
        full = tuple(sizes[c] if terms[k].count(c) > 1 or n != sizes[c] else n for c, n in zip(terms[k], x.shape))
        x, term = _diagonal(x if full == tuple(x.shape) else broadcast_to(x, full), terms[k])
        others = set(result).union(*(t for i, t in enumerate(terms) if i != k))
        alone = tuple(a for a, c in enumerate(term) if c not in others)
        operands.append(sum(x, alone) if alone else x)
        terms[k] = "".join(c for c in term if c in others)
    return apply(_of(len(xs))(tuple(terms), result, optimize), *operands)


def outer(x: Any, y: Any) -> Any:
    """All products of an element of `x` with one of `y`, both flattened: shape (size of x, size of y)."""
    return multiply(reshape(x, (-1, 1)), reshape(y, (1, -1)))
