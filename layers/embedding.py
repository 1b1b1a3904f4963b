"""The table of vectors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from minigrad import functional as F
from minigrad.backend import Device, copied, parameter_dtype
from minigrad.errors import ArgumentError, ShapeError
from minigrad.functional.arguments import whole_number
from minigrad.layers import init
from minigrad.layers.module import Module
from minigrad.modes import no_grad
from minigrad.op import value
from minigrad.ops.random import Generator
from minigrad.tensor import Parameter, Tensor

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Embedding"]


class Embedding(Module):
    """A vector for each of `num_embeddings` things; input integers (*), output (*, embedding_dim).

    Parameters
    ----------
    num_embeddings, embedding_dim : int
    padding_idx : int, optional
        A row that is 0 at first and gets no gradient.
    max_norm, norm_type : float, optional
        Rows of a larger `norm_type`-norm are taken scaled down to `max_norm`; the table is not written to.
    scale_grad_by_freq : bool
        Divide the gradient of a row by how often it was taken.
    sparse : bool
        Must be False: gradients are dense.
    device, dtype
        Where, and of which type, the table is.
    generator : Generator, optional
        Where initial values come from; the default generator unless given.

    Attributes
    ----------
    weight : Parameter of shape (num_embeddings, embedding_dim)
        At first standard normal.

    Raises
    ------
    ArgumentError
        An option is out of range.
    ShapeError
        When called: an index is out of range.

    Examples
    --------
    >>> from minigrad import Tensor
    >>> from minigrad.layers import Embedding
    >>> Embedding(10, 3)(Tensor([[1, 2, 4, 5], [4, 3, 2, 9]])).shape
    (2, 4, 3)
    """

    weight: Parameter

    def __init__(self, num_embeddings: int, embedding_dim: int, padding_idx: int | None = None,
                 max_norm: float | None = None, norm_type: float = 2.0, scale_grad_by_freq: bool = False,
                 sparse: bool = False, _weight: Any = None, _freeze: bool = False, device: str | Device | None = None,
                 dtype: Any = np.float32, generator: Generator | None = None) -> None:
        super().__init__()
        num_embeddings = whole_number(num_embeddings, "Embedding", "num_embeddings", least=0)
        embedding_dim = whole_number(embedding_dim, "Embedding", "embedding_dim", least=0)
        if padding_idx is not None and not -num_embeddings <= padding_idx < num_embeddings:
            raise ArgumentError("Embedding", got=f"padding_idx={padding_idx}",
                                wanted=f"from {-num_embeddings} to {num_embeddings - 1}")
        if sparse:
            raise ArgumentError("Embedding", got="sparse=True", wanted="False: gradients are dense here")
        self.num_embeddings, self.embedding_dim = num_embeddings, embedding_dim
        self.padding_idx = None if padding_idx is None else padding_idx % num_embeddings
        self.max_norm, self.norm_type, self.scale_grad_by_freq = max_norm, norm_type, scale_grad_by_freq
        if _weight is not None and tuple(_weight.shape) != (num_embeddings, embedding_dim):
            raise ShapeError("Embedding", got=f"a table {tuple(_weight.shape)}",
                             wanted=f"({num_embeddings}, {embedding_dim})")
        start = np.empty((num_embeddings, embedding_dim), parameter_dtype(dtype)) if _weight is None else value(_weight)
        self.weight = Parameter(start, requires_grad=not _freeze, device=device)
        if _weight is None:
            self.reset_parameters(generator)

    @classmethod
    def from_pretrained(cls, embeddings: Tensor, freeze: bool = True, **options: Any) -> Self:
        """A layer around a table that exists, by default not trained further; options as for the constructor."""
        if embeddings.ndim != 2:
            raise ShapeError("Embedding.from_pretrained", got=f"shape {tuple(embeddings.shape)}", wanted="a table")
        rows, features = embeddings.shape
        return cls(rows, features, **options, _weight=embeddings, _freeze=freeze)

    def reset_parameters(self, generator: Generator | None = None) -> None:
        """Draw the initial values again."""
        init.normal_(self.weight, generator=generator)
        if self.padding_idx is not None:
            with no_grad():
                rows = copied(value(self.weight))
                rows[self.padding_idx] = 0
                self.weight.assign(rows)

    def forward(self, input: Any) -> Any:
        """The rows of `input`."""
        return F.embedding(input, self.weight, self.padding_idx, self.max_norm, self.norm_type, self.scale_grad_by_freq)

    def extra_repr(self) -> str:
        """Hyper-parameters, those alone that differ from their defaults."""
        text = f"{self.num_embeddings}, {self.embedding_dim}"
        for name, usual in (("padding_idx", None), ("max_norm", None), ("norm_type", 2), ("scale_grad_by_freq", False)):
            text += f", {name}={getattr(self, name)}" if getattr(self, name) != usual else ""
        return text
