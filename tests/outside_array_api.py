"""The names outside the array API that minigrad asks arrays and their namespaces for; the stand-in serves no others.

NumPy and CuPy have all of them. `tests/gpu/test_standin.py` holds that there are at most fifteen, and that each is
needed: without it, the call named here fails.
"""

from typing import NamedTuple


class Outside(NamedTuple):
    """Why a name is used although the array API has none for it, and a row of the tables that fails without it."""

    reason: str
    needed_by: str


#: Functions of a namespace by their name, methods and operators of an array with a dot before it.
OUTSIDE = {
    "add.at": Outside("the standard adds to no element twice: adjoints of picking by indices", "gather-(5, 3), axis 0"),
    "bincount": Outside("the standard counts only by values that it finds, whose number is not known before",
                        "embedding by frequency"),
    "cumprod": Outside("NumPy has the standard's cumulative_prod from 2.1 on", "cumprod"),
    "cumsum": Outside("NumPy has the standard's cumulative_sum from 2.1 on", "cumsum"),
    "einsum": Outside("the standard has none; the order of products is the library's to choose", "einsum-ij,jk->ik"),
    "nan_to_num": Outside("the standard has none, and the library does it in one pass", "nan_to_num"),
    "out=": Outside("optimizers write into memory that they have: fresh arrays would cost as much as the arithmetic",
                    "SGD"),
    "vdot": Outside("the standard's vecdot is NumPy's from 2.0 on and slower: the sum of squares that clipping takes",
                    "clip_grad_norm_"),
    ".__getitem__": Outside("a key of the user's may mix integer arrays with slices, or slices reach beyond the end",
                            "getitem-array"),
    ".__setitem__": Outside("the adjoint of such a key: the standard writes to no place named by None or an array",
                            "getitem-new axis"),
}
