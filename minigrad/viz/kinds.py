"""Which kind an operation is of, which decides its colour; and which operations open into parts by default."""

from __future__ import annotations

import re

__all__ = ["COMPOSITE", "kind_of"]

_KINDS = (
    ("norm", r"Norm|Normalize"),
    ("matmul", r"Linear|MatMul|Conv|Attention|^Scores$|^WeightedSum$"),
    ("loss", r"CrossEntropy|Loss|NLL"),
    ("reduce", r"^(Sum|Mean|Max|Min|Var|Variance|Std|LogSumExp|Prod|ArgMax)$|Pool|^Moments$|^MeanSquare$|^WindowMean$"),
    ("shape", r"Reshape|Transpose|Permute|Concat|Broadcast|Expand|Squeeze|Stack|Flatten|Split|Pad|Cast"),
    ("shape", r"GetItem|IndexAdd|Take|AddTaken|AlongAxis"),
)

#: Operations whose parts are worth seeing without being asked for; every other one opens with ``expand="all"``.
COMPOSITE = re.compile(r"Norm|Softmax|CrossEntropy|Attention|LogSumExp")


def kind_of(name: str) -> str:
    """norm, matmul, loss, reduce, shape, or ew (elementwise) for all others."""
    for kind, pattern in _KINDS:
        if re.search(pattern, name):
            return kind
    return "ew"
