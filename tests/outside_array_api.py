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
}
