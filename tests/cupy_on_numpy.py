"""A stand-in for CuPy on the CPU, with CUDA graphs: arrays that NumPy computes and that no NumPy function takes.

It plays what matters to `minigrad.cuda.replay`. While a stream is capturing, nothing is computed: results exist, full
of NaN, and what would have computed them is noted. Launching the graph computes all of it, in the same arrays. Whatever
waits for the device while capturing raises what CuPy raises, and so does every product, which CuPy refuses to record.
Memory comes from pools: what is freed while capturing may be given out again at once, as by CuPy's pool, and only while
its own allocator is in use.

It is no model of time: a launch computes at once, so what is ordered wrongly between streams is not found here.
"""

import contextlib
import ctypes
import sys
import types
import weakref
from typing import ClassVar

import cupy_device
import numpy as np

CAPTURING = "the current stream is capturing, so synchronous API calls are disallowed"


class Device(cupy_device.Device):
    """One GPU."""

    def synchronize(self):
        _refuse_waiting()


class MemoryPool:
    """Blocks that are given out again once they are free."""

    def __init__(self):
        self.free, self.used, self.held, self.limit, self.recycled = {}, 0, 0, 0, 0

    def malloc(self, size):
        blocks = self.free.get(size)
        if blocks:
            block = blocks.pop()
            self.recycled += 1
        else:
            block = np.empty(max(size, 1), np.uint8)
            self.held += size
        self.used += size
        return block

    def give_back(self, block, size):
        self.used -= size
        self.free.setdefault(size, []).append(block)

    def used_bytes(self):
        return self.used

    def total_bytes(self):
        return self.held

    def get_limit(self):
        return self.limit

    def set_limit(self, size=None, fraction=None):
        self.limit = size if size is not None else int(fraction * (80 << 30))

    def free_all_blocks(self):
        self.held -= sum(size * len(blocks) for size, blocks in self.free.items())
        self.free = {}

    def n_free_blocks(self):
        return sum(map(len, self.free.values()))


class _Memory:
    """A block of a pool; it goes back when nothing needs it any more."""

    def __init__(self, size):
        allocator = _state.allocator
        self.pool, self.size = allocator.__self__, size
        self.block = allocator(size)
        for hook in _state.hooks:
            hook.malloc_postprocess(device_id=0, size=size, mem_size=size, mem_ptr=0, pmem_id=0)

    def __del__(self):
        self.pool.give_back(self.block, self.size)


class _Pointer:
    def __init__(self, address):
        self.ptr = address


class ndarray:
    """An array on the GPU."""

    __array_ufunc__ = None
    __array_priority__ = 100

    def __init__(self, array, memory):
        self._a, self._memory = array, memory

    def __array__(self, *args, **kwargs):
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Please use `.get()`")

    shape = property(lambda self: self._a.shape)
    dtype = property(lambda self: self._a.dtype)
    ndim = property(lambda self: self._a.ndim)
    size = property(lambda self: self._a.size)
    nbytes = property(lambda self: self._a.nbytes)
    itemsize = property(lambda self: self._a.itemsize)
    strides = property(lambda self: self._a.strides)
    device = property(lambda self: Device(0))
    data = property(lambda self: _Pointer(self._a.ctypes.data))
    base = property(lambda self: None if self._a.base is None or self._a.nbytes == self._memory.size else self._memory)

    @property
    def flags(self):
        flags = self._a.flags
        return types.SimpleNamespace(c_contiguous=flags.c_contiguous, f_contiguous=flags.f_contiguous, forc=flags.forc)

    T = property(lambda self: _run(np.transpose, (self,), {}))

    def get(self, stream=None):
        _refuse_waiting()
        return self._a.copy()

    def set(self, array, stream=None):
        assert isinstance(array, np.ndarray)
        assert array.shape == self.shape
        assert array.dtype == self.dtype
        if stream is None:
            _refuse_waiting()
            self._a[...] = array
        else:  # it is copied later: when somebody waits for it
            room, source = self._a, array.view()
            stream.queue.append(lambda: np.copyto(room, source))

    def item(self):
        return self.get().item()

    def tolist(self):
        return self.get().tolist()

    def __bool__(self):
        return bool(self.get())

    def __int__(self):
        return int(self.get())

    __index__ = __int__

    def __float__(self):
        return float(self.get())

    def __len__(self):
        return len(self._a)

    def __iter__(self):
        return (self[i] for i in range(len(self)))

    def __getitem__(self, key):
        return _run(_getitem, (self, key), {})

    def __setitem__(self, key, value):
        _refuse_masks(key)
        _run(_setitem, (self, key, value), {})

    def copy(self, order="C"):
        return _run(np.array, (self,), {"order": order})

    def astype(self, dtype, copy=True):
        return self if not copy and self.dtype == dtype else _run(_astype, (self, np.dtype(dtype)), {})

    def fill(self, value):
        self[...] = value

    def transpose(self, *axes):
        return _run(np.transpose, (self, *([axes] if axes else ())), {})

    def reshape(self, *shape):
        return _run(np.reshape, (self, shape[0] if len(shape) == 1 else shape), {})

    def view(self, dtype):
        return _run(_view, (self, np.dtype(dtype)), {})


def _getitem(a, key):
    return a[key]


def _setitem(a, key, value):
    a[key] = value


def _astype(a, dtype):
    return a.astype(dtype)


def _view(a, dtype):
    return a.view(dtype)


def _binary(name, function):
    def forward(self, other):
        return _run(function, (self, other), {})

    def backward(self, other):
        return _run(function, (other, self), {})

    def inplace(self, other):
        return _run(function, (self, other), {"out": self})

    setattr(ndarray, f"__{name}__", forward)
    setattr(ndarray, f"__r{name}__", backward)
    setattr(ndarray, f"__i{name}__", inplace)


for _name, _function in (("add", np.add), ("sub", np.subtract), ("mul", np.multiply), ("truediv", np.divide),
                         ("floordiv", np.floor_divide), ("mod", np.remainder), ("pow", np.power),
                         ("and", np.logical_and), ("or", np.logical_or), ("matmul", np.matmul)):
    _binary(_name, _function)
for _name, _function in (("eq", np.equal), ("ne", np.not_equal), ("lt", np.less), ("le", np.less_equal),
                         ("gt", np.greater), ("ge", np.greater_equal)):
    setattr(ndarray, f"__{_name}__", lambda self, other, f=_function: _run(f, (self, other), {}))
ndarray.__hash__ = object.__hash__
ndarray.__neg__ = lambda self: _run(np.negative, (self,), {})
ndarray.__abs__ = lambda self: _run(np.abs, (self,), {})
ndarray.__invert__ = lambda self: _run(np.invert, (self,), {})
for _name in ("sum", "mean", "max", "min", "all", "any", "argmax", "argmin", "prod", "dot"):
    _function = getattr(np, _name)
    setattr(ndarray, _name, lambda self, *args, f=_function, **kwargs: _run(f, (self, *args), kwargs))


# ------------------------------------------------------------------ computing, and noting instead


class _State:
    """What is global in CuPy: the stream, the allocator, and what is being captured."""

    def __init__(self):
        self.pool, self.pinned = MemoryPool(), MemoryPool()
        self.allocator, self.stream, self.hooks, self.tape = self.pool.malloc, Stream(null=True), [], None
        self.log, self.launches, self.pinned_blocks = [], 0, {}


def _refuse_waiting():
    if _state.tape is not None:
        raise RuntimeError(CAPTURING)


def _refuse_masks(key):
    """A mask as an index needs the number of its elements."""
    for part in key if isinstance(key, tuple) else (key,):
        if isinstance(part, (ndarray, np.ndarray)) and part.dtype == bool:
            _refuse_waiting()


def _bare(x):
    if isinstance(x, ndarray):
        return x._a
    if isinstance(x, np.ndarray) and x.ndim:
        raise TypeError(f"Unsupported type {type(x)}")  # as CuPy's functions refuse arrays of the host
    if type(x) in (tuple, list):
        return type(x)([_bare(part) for part in x])
    return {k: _bare(v) for k, v in x.items()} if type(x) is dict else x


def _arrays(x):
    if isinstance(x, ndarray):
        return [x]
    if type(x) in (tuple, list):
        return [found for part in x for found in _arrays(part)]
    return []


def _made(array):
    """An array with this content in memory of the pool in use, in the memory order that NumPy has chosen."""
    memory = _Memory(array.nbytes)
    room = memory.block[: array.nbytes].view(array.dtype) if array.nbytes else np.empty(0, array.dtype)
    order = np.argsort([-abs(s) for s in array.strides], kind="stable") if array.size else range(array.ndim)
    shape = [array.shape[i] for i in order]
    new = room.reshape(shape).transpose(np.argsort(list(order))) if array.ndim else room.reshape(())
    if _state.tape is None:
        new[...] = array
    else:
        new.fill(np.nan if new.dtype.kind == "f" else 0)
    return ndarray(new, memory)


def _rounded_once(function):
    """A product of float32 arrays taken in float64: BLAS' last bits depend on shapes and addresses."""
    def product(*args, **kwargs):
        single = [isinstance(a, np.ndarray) and a.dtype == np.float32 for a in args]
        found = function(*[a.astype(np.float64) if one else a for a, one in zip(args, single)], **kwargs)
        return found.astype(np.float32) if any(single) and found.dtype == np.float64 else found

    return product


def _run(function, args, kwargs):
    """Compute, or while capturing note what to compute."""
    if any(function is f for f in (np.matmul, np.dot, np.einsum, np.vdot)):
        if _state.tape is not None:
            raise NotImplementedError("calling cuBLAS API during stream capture is currently unsupported")
        if kwargs.get("out") is None:
            function = _rounded_once(function)
    if function is _getitem:
        _refuse_masks(args[1])
    sources = _arrays(list(args)) + _arrays(list(kwargs.values()))
    if isinstance(function, np.ufunc) and len(args) > function.nin:  # outputs by position
        args, kwargs = args[: function.nin], {**kwargs, "out": args[function.nin]}
    out = kwargs.get("out")
    bare, options = _bare(args), _bare(kwargs)
    writes = out is not None or function is _setitem or getattr(function, "__name__", "") == "at"
    if writes:
        def work():
            function(*bare, **options)

        _do(work)
        return out
    with np.errstate(all="ignore"):
        found = function(*bare, **options)
    if isinstance(found, (list, tuple)):
        return type(found)([_placed(part, sources, lambda i=i: function(*bare, **options)[i])
                            for i, part in enumerate(found)])
    return _placed(found, sources, lambda: function(*bare, **options))


def _placed(found, sources, work):
    """A result as an array of the GPU: a view of what it is a view of, else new memory."""
    if not isinstance(found, (np.ndarray, np.generic)):
        return found
    found = np.asarray(found)
    for source in sources:
        if found.size and np.shares_memory(found, source._a):
            return ndarray(found, source._memory)
    made = _made(found)
    if _state.tape is not None:
        room = made._a  # and not `made`, whose memory is free again once nobody holds it

        def compute():
            room[...] = work()

        _do(compute)
    return made


def _do(work):
    if _state.tape is None:
        work()
    else:
        _state.tape.append(work)


class _Function:
    """A function of NumPy's for these arrays."""

    def __init__(self, function):
        self._function = function

    def __call__(self, *args, **kwargs):
        return _run(self._function, args, kwargs)

    def at(self, *args):
        _run(self._function.at, args, {})


def _asarray(x, dtype=None, copy=None):
    if isinstance(x, ndarray):
        return x.astype(dtype or x.dtype) if copy or (dtype is not None and x.dtype != dtype) else x
    _refuse_waiting()
    return _made(np.asarray(x, dtype))


def _empty(shape, dtype=np.float64):
    """Memory, and nothing to compute."""
    return _made(np.empty(shape, dtype))


def _new(fill):
    """A function that makes arrays of a shape."""
    def make(shape, dtype=np.float64, order="C"):
        return _run(lambda: fill(shape, dtype), (), {})

    return make


# ------------------------------------------------------------------ streams, graphs, random numbers


class Event:
    """A moment of a stream."""

    def __init__(self):
        self.stream, self.after = None, 0

    def record(self, stream=None):
        self.stream = stream or _state.stream
        self.after = self.stream.finished + len(self.stream.queue)
        _state.log.append(("record", self.stream, self))

    def synchronize(self):
        _refuse_waiting()
        self.stream.run(self.after)


class Stream:
    """A queue of work."""

    def __init__(self, null=False, non_blocking=False):
        self.null, self.ptr, self._outer, self.capturing = null, id(self), [], False
        self.queue, self.finished = [], 0

    def run(self, until):
        """Do the work that was given until then."""
        while self.queue and self.finished < until:
            self.queue.pop(0)()
            self.finished += 1

    def __enter__(self):
        self._outer.append(_state.stream)
        _state.stream = self
        return self

    def __exit__(self, *exc):
        _state.stream = self._outer.pop()

    def record(self, event=None):
        event = event or Event()
        event.record(self)
        return event

    def wait_event(self, event):
        _state.log.append(("wait", self, event))
        event.stream.run(event.after)  # what waits, waits at once: there is no time here

    def synchronize(self):
        _refuse_waiting()
        self.run(self.finished + len(self.queue))

    def begin_capture(self, mode=None):
        assert not self.null, "cannot capture on the default (legacy) stream"
        assert _state.stream is self
        assert _state.allocator.__self__ is not _state.pool, "memory of a graph has to be its own"
        self.capturing, _state.tape = True, []

    def end_capture(self):
        assert self.capturing
        tape, self.capturing, _state.tape = _state.tape, False, None
        return Graph(tape)


class Graph:
    """What was captured."""

    def __init__(self, tape):
        self.tape = tape

    def launch(self, stream=None):
        _refuse_waiting()
        _state.launches += 1
        with np.errstate(all="ignore"):
            for work in self.tape:
                work()


class XORWOW:
    """The state of a generator, on the device."""

    def __init__(self, seed, size=-1):
        rng = np.random.default_rng(seed)
        self._state = _made(rng.integers(-128, 127, 16, dtype=np.int8))


class _Random:
    """A generator whose state is on the device: recorded draws go on."""

    def __init__(self, bits):
        self.bit_generator = bits

    def random(self, shape=(), dtype="float64"):
        made = _empty(shape, dtype)
        room = made._a

        def work():
            state = self.bit_generator._state._a
            rng = np.random.default_rng(np.frombuffer(state.tobytes(), np.uint32))
            room[...] = rng.random(shape, dtype=dtype)
            state[...] = np.frombuffer(rng.bytes(16), np.int8)

        _do(work)
        return made


class MemoryHook:
    """Told of allocations."""

    def __enter__(self):
        if any(hook.name == self.name for hook in _state.hooks):
            raise KeyError(f"memory hook {self.name} already exists")
        _state.hooks.append(self)
        return self

    def __exit__(self, *exc):
        _state.hooks.remove(self)


@contextlib.contextmanager
def _using_allocator(allocator):
    before, _state.allocator = _state.allocator, allocator
    try:
        yield
    finally:
        _state.allocator = before


def _empty_pinned(shape, dtype=np.float64):
    """Host memory that is given out again, with other content, once its array is gone."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    found = _state.pinned_blocks.setdefault(size, [])
    block = found.pop() if found else np.empty(max(size, 1), np.uint8)
    array = np.ndarray(shape, dtype, buffer=block)

    def gone():
        block.fill(255)
        found.append(block)

    weakref.finalize(array, gone)
    return array


class FakeBlas:
    """cuBLAS' functions by NumPy, on what their pointers point to: columns side by side, as cuBLAS has them."""

    KINDS: ClassVar = {0: np.float32, 1: np.float64, 2: np.float16}

    def __init__(self):
        self.workspace = None

    def cublasCreate_v2(self, handle):
        return 0

    def cublasDestroy_v2(self, handle):
        return 0

    def cublasSetStream_v2(self, handle, stream):
        self.workspace = None  # as cuBLAS does
        return 0

    def cublasSetWorkspace_v2(self, handle, pointer, size):
        self.workspace = pointer.value
        return 0

    def cublasGemmStridedBatchedEx(self, handle, across_a, across_b, m, n, k, alpha, a, kind_a, lda, step_a, b, kind_b,
                                   ldb, step_b, beta, c, kind_c, ldc, step_c, count, compute, algorithm):
        assert self.workspace
        dtype = np.dtype(self.KINDS[kind_a.value])
        m, n, k = m.value, n.value, k.value

        def matrix(pointer, transposed, rows, columns, lead, offset):
            if transposed.value:
                return matrix(pointer, ctypes.c_int(0), columns, rows, lead, offset).T
            assert lead.value >= rows, "the leading dimension is at least the number of rows"
            size = lead.value * (columns - 1) + rows
            memory = (ctypes.c_byte * (size * dtype.itemsize)).from_address(pointer.value + offset * dtype.itemsize)
            flat = np.frombuffer(memory, dtype)
            return np.lib.stride_tricks.as_strided(flat, (rows, columns), (dtype.itemsize, lead.value * dtype.itemsize))

        def work():
            for i in range(count.value):
                left = matrix(a, across_a, m, k, lda, i * step_a.value)
                right = matrix(b, across_b, k, n, ldb, i * step_b.value)
                # The product that `cupy.matmul` of this module takes, so that bits can be compared.
                product = _rounded_once(np.matmul)(right.T, left.T)
                matrix(c, ctypes.c_int(0), m, n, ldc, i * step_c.value)[...] = product.T

        _do(work)
        return 0


class _Module(types.ModuleType):
    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        found = getattr(np, name)
        return _Function(found) if callable(found) and not isinstance(found, type) else found


def cupy():
    """The module, anew."""
    module = _Module("cupy")
    module.__version__ = "14"
    module.ndarray, module.asarray, module.array = ndarray, _asarray, _asarray
    module.zeros, module.ones, module.empty = _new(np.zeros), _new(np.ones), _empty
    module.empty_like = lambda x, dtype=None: _made(np.empty_like(x._a, dtype=dtype))
    module.result_type, module.broadcast_shapes, module.finfo = np.result_type, np.broadcast_shapes, np.finfo
    module.get_default_memory_pool = lambda: _state.pool
    module.get_default_pinned_memory_pool = lambda: _state.pinned
    module.random = types.SimpleNamespace(Generator=_Random, XORWOW=XORWOW)
    runtime = types.SimpleNamespace(
        memGetInfo=lambda: (60 << 30, 80 << 30), getDeviceCount=lambda: 1, getDevice=lambda: 0,
        CUDARuntimeError=RuntimeError,
        getDeviceProperties=lambda index: {"name": b"NVIDIA H100 80GB HBM3"})
    module.cuda = types.SimpleNamespace(
        is_available=lambda: True, Device=Device, Stream=Stream, Event=Event, MemoryPool=MemoryPool,
        MemoryHook=MemoryHook, get_current_stream=lambda: _state.stream, using_allocator=_using_allocator,
        runtime=runtime)
    return module


_state = _State()


@contextlib.contextmanager
def installed(monkeypatch):
    """Let `import cupy` give this module, and cuBLAS be NumPy."""
    from minigrad import kernels
    from minigrad.kernels.cuda import blas
    from minigrad.ops import random

    _state.__init__()
    monkeypatch.setitem(sys.modules, "cupy", cupy())
    monkeypatch.setitem(sys.modules, "cupyx", types.SimpleNamespace(empty_pinned=_empty_pinned))
    monkeypatch.setitem(sys.modules, "array_api_compat.cupy", None)  # a machine with CuPy alone
    monkeypatch.setattr(blas, "_library", FakeBlas)
    try:
        with kernels.disabled():
            yield _state
    finally:
        for generator in list(random._all):
            generator._streams.clear()  # they are of a device that is no longer there
