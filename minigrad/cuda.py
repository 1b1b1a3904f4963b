"""What concerns the GPU alone: replaying recorded steps, memory, determinism, streams.

Everything here needs CuPy and a GPU; without them it says in one line what is missing. See ``docs/gpu.md``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from minigrad import replaying
from minigrad.backend import Device, as_device, cuda_problem
from minigrad.determinism import atomics_refused, set_atomics_refused
from minigrad.errors import ArgumentError, DeviceError, GraphError

__all__ = ["MemoryStatistics", "Peak", "deterministic", "empty_cache", "is_available", "is_deterministic",
           "memory_statistics", "peak_memory", "replay", "set_memory_limit", "synchronize"]

_CUBLAS = "CUBLAS_WORKSPACE_CONFIG"
if atomics_refused():  # by the environment
    os.environ.setdefault(_CUBLAS, ":4096:8")


def is_available() -> bool:
    """Whether CUDA can be used here."""
    return not cuda_problem()


def _cupy(where: str) -> ModuleType:
    """CuPy, or an error that says what is missing."""
    problem = cuda_problem()
    if problem:
        raise DeviceError(where, got="a call for the GPU", wanted="a machine where CUDA works", hint=problem)
    import cupy

    return cupy  # type: ignore[no-any-return]


def synchronize(device: str | Device = "cuda") -> None:
    """Wait until the device has done all that it was given: before and after measuring times."""
    cupy = _cupy("synchronize")
    with cupy.cuda.Device(as_device(device).index):
        cupy.cuda.Device().synchronize()


# ------------------------------------------------------------------ replay


def replay(step: Callable[..., Any], *, warmup: int = replaying.WARMUP,
           device: str | Device = "cuda") -> replaying.Replay:
    """Record a whole training step once as a CUDA graph, and replay it from then on: one launch in place of hundreds.

    Every call of what is returned is one step. The first `warmup` calls run `step` as it is; the next one records it
    and launches the graph, and later ones copy their arguments into the graph's own and launch it. N such calls do to
    weights, buffers and optimizer what N calls of `step` do.

    Parameters
    ----------
    step : callable
        Forward pass, loss, ``zero_grad()``, backward pass and ``optimizer.step()``, in whatever order; takes Tensors
        or CuPy arrays, nested in tuples, lists and dicts, and constants; returns such a nest of results.
    warmup : int
        At least 1: what is made once and kept (kernels, states of optimizers) has to be made before the recording.
    device : str or Device

    Returns
    -------
    Replay
        To be called like `step`. It returns copies of the results, without history. ``reset()`` forgets the recording.

    Raises
    ------
    DeviceError
        CUDA cannot be used here, or, when called, an argument is not on the device.
    ArgumentError
        When called: shapes, dtypes, nesting or constants are not those of the first call.
    GraphError
        While recording: the step reads a value (`.item()`, ``float(t)``, `.numpy()`, ``if t:``), waits for the device,
        or does what only the host can repeat (a schedule's or EMA's step, a loss scaler). Nothing has changed then.
        Later: a parameter, a state or an option that switches a part of the formula is another than was recorded.

    Notes
    -----
    Kept right besides the weights: running statistics and `num_batches_tracked` (batches that are not finite are left
    out on the device; `dropped_updates` does not count them), the counts of steps of optimizers, gradients in `.grad`,
    random numbers (the generator's state is on the device and goes on). The learning rate and other options are read
    before each launch, so schedules work, between the calls.

    Not seen: what the step does in Python besides, such as counting or appending to a list, happens while recording and
    never again; and ``model.eval()`` does not change a step that is recorded. A target class out of range, which
    cannot be refused, makes the loss NaN.

    References
    ----------
    CUDA C++ Programming Guide, "CUDA Graphs".

    Examples
    --------
    ::

        def step(x, t):
            loss = F.cross_entropy(model(x), t)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            return loss

        fast = minigrad.cuda.replay(step)
        for x, t in DataLoader(data, 64, drop_last=True, device="cuda"):
            loss = fast(x, t)
    """
    _cupy("replay")
    return replaying.Replay(step, lambda: _Graphs(as_device(device)), warmup)


class _Names:
    """CuPy's functions while a graph is recorded, with products that can be recorded."""

    def __init__(self, names: Any, blas: Any) -> None:
        self._names = names
        self.matmul = blas.matmul

    def __getattr__(self, name: str) -> Any:
        return getattr(self._names, name)

    def vdot(self, x: Any, y: Any) -> Any:
        return (x * y).sum()

    def einsum(self, *args: Any, **options: Any) -> Any:
        raise GraphError("einsum", got="a call in a step that is being recorded",
                         wanted="matmul, which CUDA graphs can hold", hint="CuPy's einsum calls cuBLAS itself")


class _Graphs:
    """CUDA graphs of one device: see `minigrad.replaying.Graphs`.

    The memory of the graph comes from a pool of its own: blocks that are freed while recording are used again inside
    the graph, in the order of the stream, and never by anybody else.
    """

    def __init__(self, device: Device) -> None:
        import cupy

        self.device, self._cupy = device, cupy
        with cupy.cuda.Device(device.index):
            self._stream = cupy.cuda.Stream(non_blocking=True)
            self._pool = cupy.cuda.MemoryPool()
        self._blas: Any = None
        self._graph: Any = None

    def names(self) -> Any:
        from minigrad.backend import namespace
        from minigrad.kernels.cuda.blas import Blas

        with self._cupy.cuda.Device(self.device.index):
            self._blas = Blas(self._stream.ptr)
            return _Names(namespace(self._cupy.empty(0)), self._blas)

    @contextmanager
    def aside(self) -> Iterator[None]:
        cuda = self._cupy.cuda
        with cuda.Device(self.device.index):
            self._stream.wait_event(cuda.get_current_stream().record())
            with self._stream:
                yield
            self._stream.synchronize()  # what was made there may be used on every stream

    @contextmanager
    def recording(self) -> Iterator[None]:
        cuda = self._cupy.cuda
        with ExitStack() as stack:
            stack.enter_context(cuda.Device(self.device.index))
            stack.callback(self._blas.close)  # the graph needs its workspace alone, which stays
            cuda.get_current_stream().synchronize()  # what was copied for the recording is there
            stack.enter_context(self._stream)
            stack.enter_context(cuda.using_allocator(self._pool.malloc))
            self._stream.begin_capture()
            try:
                yield
            except BaseException:
                self._abandon()
                raise
            self._graph = self._stream.end_capture()

    def _abandon(self) -> None:
        """End a recording that has failed: the stream must not stay in it."""
        try:
            self._stream.end_capture()
        except RuntimeError:
            return  # CUDA says once more that the recording is invalid; the error that made it so is under way

    @contextmanager
    def outside(self) -> Iterator[None]:
        with self._cupy.cuda.using_allocator(self._cupy.get_default_memory_pool().malloc):
            yield

    def launch(self) -> None:
        with self._cupy.cuda.Device(self.device.index):
            self._graph.launch()


# ------------------------------------------------------------------ memory


@dataclass(frozen=True)
class MemoryStatistics:
    """Bytes on a device.

    Attributes
    ----------
    used : of arrays that are alive
    held : of the pool, used or free; it falls only by `empty_cache`, so it is the most that was needed since
    limit : what the pool may hold; 0 is no limit
    free, total : of the whole device, whoever holds it
    pinned_free : number of free blocks of pinned host memory
    """

    used: int
    held: int
    limit: int
    free: int
    total: int
    pinned_free: int


def memory_statistics(device: str | Device = "cuda") -> MemoryStatistics:
    """How much memory of the device is in use, by CuPy's default pool; graphs of `replay` have pools of their own."""
    cupy = _cupy("memory_statistics")
    with cupy.cuda.Device(as_device(device).index):
        pool = cupy.get_default_memory_pool()
        free, total = cupy.cuda.runtime.memGetInfo()
        return MemoryStatistics(int(pool.used_bytes()), int(pool.total_bytes()), int(pool.get_limit()), int(free),
                                int(total), int(cupy.get_default_pinned_memory_pool().n_free_blocks()))


@dataclass
class Peak:
    """The most bytes that were in use at a time; filled by `peak_memory`."""

    bytes: int = 0


@contextmanager
def peak_memory() -> Iterator[Peak]:
    """Inside the block, watch how many bytes of the default pool are in use: ``with peak_memory() as peak: …``.

    It is told of every allocation, which costs about a microsecond each.
    """
    cupy = _cupy("peak_memory")
    pool, peak = cupy.get_default_memory_pool(), Peak()

    class Watch(cupy.cuda.MemoryHook):  # type: ignore[misc, name-defined]
        name = f"minigrad {id(peak)}"  # CuPy knows hooks by their names; blocks may be nested

        def malloc_postprocess(self, **facts: Any) -> None:
            peak.bytes = max(peak.bytes, int(pool.used_bytes()))

    peak.bytes = int(pool.used_bytes())
    with Watch():
        yield peak


def empty_cache(device: str | Device = "cuda") -> None:
    """Give memory that is held and not in use back to the device, pinned memory to the host."""
    cupy = _cupy("empty_cache")
    with cupy.cuda.Device(as_device(device).index):
        cupy.get_default_memory_pool().free_all_blocks()
        cupy.get_default_pinned_memory_pool().free_all_blocks()


def set_memory_limit(size: int | None = None, fraction: float | None = None, device: str | Device = "cuda") -> None:
    """Let the default pool hold at most so many bytes, or such a fraction of the device's; 0 is no limit.

    Raises
    ------
    ArgumentError
        Neither or both are given, or one is out of its range.
    DeviceError
        CUDA cannot be used here.
    """
    if (size is None) == (fraction is None):
        raise ArgumentError("set_memory_limit", got=f"size={size}, fraction={fraction}", wanted="one of them")
    if (size is not None and size < 0) or (fraction is not None and not 0 <= fraction <= 1):
        raise ArgumentError("set_memory_limit", got=f"size={size}, fraction={fraction}",
                            wanted="bytes from 0, or a fraction from 0 to 1")
    cupy = _cupy("set_memory_limit")
    with cupy.cuda.Device(as_device(device).index):
        cupy.get_default_memory_pool().set_limit(**({"size": size} if size is not None else {"fraction": fraction}))


# ------------------------------------------------------------------ determinism


def deterministic(enabled: bool = True) -> None:
    """Compute the same bits in every run of a program on the same kind of GPU, with the same versions.

    * Kernels that add by atomics, whose order changes from run to run, decline (`accelerates(…, atomics=True)`).
    * Operations that CuPy computes by atomics refuse on a GPU: adding into elements that an index may name several
      times, which is the backward pass of `take`, `gather`, of indexing by arrays, and of `Embedding`.
    * cuBLAS gets a fixed workspace (``CUBLAS_WORKSPACE_CONFIG=:4096:8``, unless that is set), which counts from the
      next handle on: switch this on before the first product on the GPU.

    The environment variable ``MINIGRAD_DETERMINISTIC=1`` switches it on when minigrad is imported. The CPU always
    computes the same bits in a number of threads. Random numbers hang on the seed in either mode.
    """
    set_atomics_refused(bool(enabled))
    if enabled:
        os.environ.setdefault(_CUBLAS, ":4096:8")


def is_deterministic() -> bool:
    """Whether `deterministic` is on."""
    return atomics_refused()
