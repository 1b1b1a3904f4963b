"""Work in slabs that fit the cache, shared by threads: NumPy lets others run while it computes."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from typing import Any

from minigrad.threads import get_num_threads

__all__ = ["shared"]

#: Elements from which several threads share the work.
PARALLEL_FROM = 1 << 18


@functools.cache
def _pool(threads: int) -> Any:
    from concurrent.futures import ThreadPoolExecutor  # not needed for an import of minigrad

    return ThreadPoolExecutor(threads, thread_name_prefix="minigrad-blocked")


def shared(work: Callable[[int, int], None], slabs: int, size: int) -> None:
    """`work` on all slabs, from one to another; on inputs of large `size` in several threads."""
    parts = min(get_num_threads(), slabs) if size >= PARALLEL_FROM else 1
    bounds = [slabs * i // parts for i in range(parts + 1)]
    if parts == 1:
        work(0, slabs)
        return
    for done in [_pool(parts).submit(work, *pair) for pair in itertools.pairwise(bounds)]:
        done.result()
