"""Each library's way to do the works. A builder returns a `Built`, or None for what the library cannot do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple


class Built(NamedTuple):
    """call : does the work once; values : does it once and gives what it computed, by name"""

    call: Callable[[], Any]
    values: Callable[[], dict[str, Any]]
