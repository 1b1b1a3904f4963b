"""How the CUDA kernels of the normalizations see an input, and the sizes and macros of their launches.

Nothing here needs CuPy: plans depend on shapes, item sizes, alignments and the device's properties alone.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

from minigrad.kernels.cuda.launch import ELEMENTS
from minigrad.ops.normalization_texts import BatchNorm, GroupNorm, InstanceNorm

__all__ = ["ACTIVATIONS", "Gpu", "Plan", "Sets", "affine", "column", "combinations", "every_combination", "row",
           "segmented", "sums", "view", "width"]

#: What the sources call the activations that an operation may name.
ACTIVATIONS = {"": 0, "relu": 1, "sigmoid": 2}
COMFORTABLE = 100 * 1024  # bytes of shared memory that let two blocks run on one multiprocessor
RESERVED = 4096  # bytes of shared memory for what the kernels declare themselves
#: (accesses of one thread to a row, most threads), the first that suffices
ROW_SHAPES = (1, 256), (2, 256), (4, 512), (8, 1024)
#: Plans that are kept: inputs of ever new lengths shall not fill the memory.
KEPT = 256


class Gpu(NamedTuple):
    """What plans depend on: multiprocessors, bytes of shared memory that a block may have, blocks of a cluster."""

    multiprocessors: int
    shared: int
    cluster: int


class Sets(NamedTuple):
    """An input as sets that share statistics.

    layout : "channel": (segments, channels, places), a set is a channel; "column": the same with one place;
        "group": (…, segments, places), a set is its last two axes, and a segment has its own γ and β; "row": a matrix
        with `channels` columns, each with its own γ and β
    sets : how many there are
    segments, channels, places : as the layout says
    """

    layout: str
    sets: int
    segments: int
    channels: int
    places: int


class Plan(NamedTuple):
    """A launch: the source and its macros, the sizes, and how many packs there are and are kept."""

    file: str
    macros: dict[str, Any]
    grid: tuple[int, ...]
    block: tuple[int, ...]
    shared: int
    packs: int
    kept: int


@functools.lru_cache(KEPT)
def view(cls: type, axes: tuple[int, ...], shape: tuple[int, ...]) -> Sets:
    """How the kernels see an input of an operation."""
    if issubclass(cls, BatchNorm):
        places = math.prod(shape[2:])
        return Sets("column" if places == 1 else "channel", shape[1], shape[0], shape[1], places)
    length = math.prod(shape[a] for a in axes)
    sets = math.prod(shape) // length
    if issubclass(cls, (GroupNorm, InstanceNorm)):
        segments = shape[2] if issubclass(cls, GroupNorm) else 1
        return Sets("group", sets, segments, shape[1] * segments, length // segments)
    return Sets("row", sets, 1, length, 1)


def width(length: int, *arrays: Any) -> int:
    """How many elements a thread takes in one access of at most 16 bytes, if there are runs of `length` elements."""
    size = arrays[0].itemsize
    for wide in (16 // size, 8 // size, 4 // size):
        if length % wide == 0 and all(a.data.ptr % (wide * size) == 0 for a in arrays):
            return int(wide)
    return 1


def _elements(dtype: str, wide: int, threads: int) -> dict[str, Any]:
    """The macros that every source takes."""
    return {"ELEMENT": ELEMENTS[dtype], "HALF": int(dtype != "float32"), "VEC": wide, "THREADS": threads}


def _size(dtype: str) -> int:
    return 4 if dtype == "float32" else 2


@functools.lru_cache(KEPT)
def segmented(sets: Sets, dtype: str, wide: int, arrays: int, activation: str, gpu: Gpu) -> Plan:
    """For channels and groups: as few blocks for a set as leave shares small enough for two on a multiprocessor.

    And as give every multiprocessor work. Where no share fits, no shared memory is asked for, and elements are read
    again.
    """
    grouped = sets.layout == "group"
    packs = sets.places // wide
    for blocks in (1, 2, 4, 8):
        most = math.ceil(packs / blocks)  # packs of a segment that a block of groups has
        kept = sets.segments * most if grouped else math.ceil(sets.segments * packs / blocks)
        size = kept * wide * _size(dtype) * arrays
        enough = size <= COMFORTABLE and blocks * sets.sets >= gpu.multiprocessors
        if enough or 2 * blocks > min(gpu.cluster, packs if grouped else kept * blocks):
            break
    threads = 512 if kept >= 2048 else 128 if kept > 64 else 32
    team = 32
    if grouped and most <= 16:
        team = 4
    elif grouped and sets.segments < threads // 32 and most > 32:
        team = threads
    macros = {**_elements(dtype, wide, threads), "BLOCKS": blocks, "GROUPED": int(grouped),
              "ACTIVATION": ACTIVATIONS[activation], "TEAM": team}
    if size > gpu.shared - RESERVED:
        return Plan("normalization_channels", macros, (sets.sets * blocks,), (threads,), 0, packs, kept)
    # A cluster fills shared memory for its next set while it writes. Not more than four, for all to end at a time.
    held = min(2048 // threads, 32, gpu.shared // (size + 2048))
    each = max(1, min(4, sets.sets * blocks // (2 * gpu.multiprocessors * max(1, held))))
    clusters = math.ceil(sets.sets / each)
    return Plan("normalization_channels", macros, (clusters * blocks,), (threads,), size, packs, kept)


@functools.lru_cache(KEPT)
def column(sets: Sets, dtype: str, activation: str, gpu: Gpu) -> Plan:
    """For columns: more rows of threads for taller ones, and clusters where there are too few for the device."""
    strips, count = math.ceil(sets.channels / 32), sets.segments
    blocks = 1
    while 2 * blocks <= min(gpu.cluster, 8) and blocks * strips < gpu.multiprocessors and count >= 512 * blocks:
        blocks *= 2
    threads = 512 if count >= 128 * blocks else 256
    macros = {**_elements(dtype, 1, threads), "BLOCKS": blocks, "ACTIVATION": ACTIVATIONS[activation]}
    return Plan("normalization_columns", macros, (strips * blocks,), (32, threads // 32), 0, 1, 0)


def _rounded(threads: int) -> int:
    """Not every number of warps: each is a compilation of its own."""
    step = 32 if threads <= 256 else 64 if threads <= 512 else 128
    return step * math.ceil(threads / step)


def sums(columns: int) -> Plan:
    """For the sums of two matrices' columns."""
    macros = {**_elements("float32", 1, 512), "BLOCKS": 1, "ACTIVATION": 0}
    return Plan("normalization_columns", macros, (math.ceil(columns / 32), 2), (32, 16), 0, 1, 0)


@functools.lru_cache(KEPT)
def row(sets: Sets, dtype: str, wide: int, arrays: int, centred: bool, gpu: Gpu) -> Plan | None:
    """For rows: as many blocks as the device holds at a time. None if a row is too long for shared memory."""
    length = sets.channels
    packs = length // wide
    # The row and its float parameters: both forward, γ backward, when two arrays have a row.
    shared = length * (arrays * _size(dtype) + 4 * (3 - arrays))
    for accesses, most in ROW_SHAPES:
        threads = _rounded(math.ceil(packs / accesses))
        if threads <= most:
            break
    else:
        return None
    if shared > gpu.shared - RESERVED:
        return None
    registers = max(40, 16 + 3 * accesses * wide)
    held = min(2048 // threads, 32, 65536 // (registers * threads), gpu.shared // (shared + 2048))
    macros = {**_elements(dtype, wide, threads), "EPT": accesses, "CENTRED": int(centred)}
    return Plan("normalization_rows", macros, (min(sets.sets, gpu.multiprocessors * max(1, held)),), (threads,), shared,
                packs, packs)


@functools.lru_cache(KEPT)
def affine(sets: Sets, dtype: str, wide: int, reducing: bool, gpu: Gpu) -> Plan:
    """For BatchNorm in evaluation: the map itself, or with sums for the parameters' gradients."""
    columns = sets.layout == "column"
    threads = 128 if reducing and columns else 256
    packs = (sets.channels if columns else sets.places) // wide
    if reducing:
        across = math.ceil(sets.channels / threads) if columns else sets.channels
        down = max(1, min(sets.segments, 4 * gpu.multiprocessors // across))
        grid: tuple[int, ...] = (across, down)
    else:
        total = sets.segments * sets.channels * sets.places // wide
        grid = (min(math.ceil(total / threads), 16 * gpu.multiprocessors),)
    macros = {**_elements(dtype, wide, threads), "COLUMNS": int(columns)}
    return Plan("normalization_affine", macros, grid, (threads,), 0, packs, 0)


# ------------------------------------------------------------------ all that plans may ask for


def _threads(above: int, most: int) -> list[int]:
    """What `_rounded` makes of the numbers above one and up to another."""
    return sorted({_rounded(threads) for threads in range(above + 1, most + 1)})


def every_combination() -> Iterator[tuple[str, dict[str, Any]]]:
    """(file, macros) of every compilation that a plan can ask for."""
    for dtype in ELEMENTS:
        for wide in (1, 2, 4) if dtype == "float32" else (1, 2, 4, 8):
            for threads, blocks in itertools.product((32, 128, 512), (1, 2, 4, 8)):
                for grouped, activation, team in sorted({*((0, a, 32) for a in range(3)),
                                                         *((1, 0, t) for t in (4, 32, threads))}):
                    yield "normalization_channels", {**_elements(dtype, wide, threads), "BLOCKS": blocks,
                                                     "GROUPED": grouped, "ACTIVATION": activation, "TEAM": team}
            for place, (accesses, most) in enumerate(ROW_SHAPES):
                fewest = place and math.prod(ROW_SHAPES[place - 1]) // accesses
                for threads, centred in itertools.product(_threads(fewest, most), (0, 1)):
                    yield "normalization_rows", {**_elements(dtype, wide, threads), "EPT": accesses,
                                                 "CENTRED": centred}
            yield "normalization_affine", {**_elements(dtype, wide, 256), "COLUMNS": 0}
            yield "normalization_affine", {**_elements(dtype, wide, 256), "COLUMNS": 1}
        yield "normalization_affine", {**_elements(dtype, 1, 128), "COLUMNS": 1}
        for threads, blocks, activation in itertools.product((256, 512), (1, 2, 4, 8), range(3)):
            yield "normalization_columns", {**_elements(dtype, 1, threads), "BLOCKS": blocks, "ACTIVATION": activation}


def combinations() -> list[tuple[str, dict[str, Any]]]:
    """Some of `every_combination`, in which every two values of two macros of a file that occur together do so."""
    missing: set[Any] = set()
    found = []

    def of(file: str, macros: dict[str, Any]) -> set[Any]:
        return {(file, pair) for pair in itertools.combinations(sorted(macros.items()), 2)}

    known = list(every_combination())
    for file, macros in known:
        missing |= of(file, macros)
    while missing:
        file, macros = max(known, key=lambda one: len(of(*one) & missing))
        missing -= of(file, macros)
        found.append((file, macros))
    return found
