"""A module in place of CuPy whose arrays lie in host memory and whose kernels run on the CPU.

It does what minigrad's kernels and texts ask of CuPy, and refuses what CuPy refuses: a NumPy array where one of its own
is wanted, and `np.asarray` of one of its own. Memory from `empty` is surrounded by bytes that a launch must not change
and holds NaN (or huge integers) until somebody writes.
"""

import ctypes
import functools
import operator
import sys
import types
from typing import ClassVar

import numpy as np
from cuda_on_cpu.compiling import Argument, Launch, library
from cupy_device import Device

MARGIN = 512
FILL = 0xFF


class _Memory:
    """Bytes with a margin on both sides, aligned as on the device."""

    def __init__(self, size):
        self.bytes = np.full(size + 3 * MARGIN, FILL, np.uint8)
        self.start = MARGIN + -self.bytes.ctypes.data % MARGIN
        self.end = self.start + size

    def array(self, shape, dtype, order):
        return np.ndarray(shape, dtype, self.bytes, self.start, order=order)

    def intact(self):
        return (self.bytes[: self.start] == FILL).all() and (self.bytes[self.end :] == FILL).all()


class ndarray:
    """An array on the device that is none; `host` is the NumPy array behind it."""

    __slots__ = ("host", "base", "memory", "__weakref__")
    __array_priority__ = 100

    def __init__(self, host, base=None, memory=None):
        self.host, self.base, self.memory = host, base, memory

    def __array__(self, *args, **kwargs):
        raise TypeError("Implicit conversion to a NumPy array is not allowed")

    def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
        if method != "__call__":
            raise TypeError(f"{ufunc.__name__}.{method} of an array on the device")
        return _call(ufunc, *inputs, **kwargs)

    def __array_namespace__(self, api_version=None):
        return sys.modules["cupy"]

    def get(self):
        return self.host.copy()

    def item(self, *at):
        return self.host.item(*at)

    @property
    def data(self):
        return types.SimpleNamespace(ptr=self.host.ctypes.data, device_id=0)

    @property
    def device(self):
        return Device(0)

    @property
    def T(self):
        return _wrapped(self.host.T, (self,))

    def __getattr__(self, name):
        found = getattr(self.host, name)
        if name in ("shape", "dtype", "ndim", "size", "itemsize", "nbytes", "strides", "flags"):
            return found
        if not callable(found) or name.startswith("_"):
            raise AttributeError(name)
        return lambda *args, **kwargs: _call(found, *args, also=(self,), **kwargs)

    def __getitem__(self, key):
        return _call(operator.getitem, self, key)

    def __setitem__(self, key, value):
        _call(operator.setitem, self, key, value)

    def __len__(self):
        return len(self.host)

    def __bool__(self):
        return bool(self.host)

    def __float__(self):
        return float(self.host)

    def __int__(self):
        return int(self.host)

    def __index__(self):
        return operator.index(self.host)

    def __repr__(self):
        return f"on_cpu{self.host!r}"

    __hash__ = None


def _operators():
    def binary(function):
        return lambda x, y: _call(function, x, y)

    def swapped(function):
        return lambda x, y: _call(function, y, x)

    ndarray.__matmul__ = matmul
    for name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "and_", "or_", "xor", "lshift",
                 "rshift"):
        plain, function = name.rstrip("_"), getattr(operator, name)
        setattr(ndarray, f"__{plain}__", binary(function))
        setattr(ndarray, f"__r{plain}__", swapped(function))
        setattr(ndarray, f"__i{plain}__", _in_place(getattr(operator, f"i{plain}")))
    for name in ("lt", "le", "gt", "ge", "eq", "ne"):
        setattr(ndarray, f"__{name}__", binary(getattr(operator, name)))
    for name in ("neg", "pos", "invert", "abs"):
        setattr(ndarray, f"__{name}__", functools.partialmethod(_swapped_call, getattr(operator, name)))


def _swapped_call(x, function):
    return _call(function, x)


def _in_place(function):
    def run(x, y):
        function(x.host, _host(y))
        return x

    return run


def _host(x):
    """NumPy's array behind an argument; refuses NumPy's own, which CuPy would refuse too."""
    if isinstance(x, ndarray):
        return x.host
    if isinstance(x, np.ndarray) and x.ndim:
        raise TypeError("Unsupported type <class 'numpy.ndarray'>")
    if isinstance(x, (tuple, list)):
        return type(x)(_host(y) for y in x)
    return x


def _wrapped(result, arguments):
    """An array of this module for a result; a view keeps its owner."""
    if isinstance(result, (tuple, list)):
        return type(result)(_wrapped(r, arguments) for r in result)
    if not isinstance(result, (np.ndarray, np.generic)):
        return result
    for x in arguments:
        if isinstance(x, ndarray) and isinstance(result, np.ndarray) and np.may_share_memory(result, x.host):
            return x if result is x.host else ndarray(result, x if x.base is None else x.base, x.memory)
    return ndarray(np.asarray(result))


def _call(function, *args, also=(), **kwargs):
    """NumPy's function on the arrays behind the arguments."""
    result = function(*map(_host, args), **{name: _host(x) for name, x in kwargs.items()})
    return _wrapped(result, (*also, *args, *kwargs.values()))


def empty(shape, dtype=float, order="C"):
    """Memory that holds no useful value yet."""
    dtype = np.dtype(dtype)
    shape = tuple(shape) if isinstance(shape, (tuple, list)) else (shape,)
    memory = _Memory(int(np.prod(shape, dtype=np.int64)) * dtype.itemsize)
    return ndarray(memory.array(shape, dtype, order), None, memory)


def asarray(x, dtype=None, copy=None):
    """A copy on the device of anything from the host; itself if it is there."""
    if isinstance(x, ndarray):
        return x if not copy and dtype in (None, x.dtype) else _filled(x.host.astype(dtype or x.dtype))
    return _filled(np.asarray(x, dtype))


def _filled(host):
    made = empty(host.shape, host.dtype, "F" if host.flags.f_contiguous and not host.flags.c_contiguous else "C")
    made.host[...] = host
    return made


def _like(function):
    def run(x, dtype=None, shape=None, **kwargs):
        fresh = function(x.host, dtype=dtype, shape=shape, **kwargs)
        return _filled(fresh) if function is not np.empty_like else empty(
            fresh.shape, fresh.dtype, "C" if fresh.flags.c_contiguous else "F")

    return run


def matmul(x, y):
    """As CuPy: half precision is added up in float32, and rounded once; there are no stacks of bfloat16."""
    dtype = np.result_type(x.dtype, y.dtype)
    if dtype.name == "bfloat16" and max(x.ndim, y.ndim) > 2:
        raise NotImplementedError("a product of stacks of bfloat16")
    wide = np.float32 if dtype.itemsize == 2 else dtype
    return ndarray(np.matmul(x.host.astype(wide, copy=False), y.host.astype(wide, copy=False)).astype(dtype))


class RawModule:
    """A source, compiled for the CPU when a function of it is asked for."""

    def __init__(self, code, options=()):
        unknown = [o for o in options if not o.startswith(("-D", "-std=", "--fmad=", "--use_fast_math"))]
        if unknown:
            raise NotImplementedError(f"the options {unknown}")
        self.library = library(code, tuple(o for o in options if o.startswith("-D")))

    def get_function(self, name):
        return Function(self.library, name)


class Function:
    """A kernel that can be launched. Structures are passed by value, in an array of one element.

    Every second launch runs a block's threads in the opposite order.
    """

    launched: ClassVar[list[str]] = []  # the names of all, in their order

    def __init__(self, where, name):
        self.name, self.max_dynamic_shared_size_bytes = name, 48 * 1024
        self.run = getattr(where, f"launch_{name}")
        self.run.restype = ctypes.c_char_p

    def __call__(self, grid, block, args, shared_mem=0):
        arrays = [a for a in args if isinstance(a, ndarray)]
        if shared_mem > self.max_dynamic_shared_size_bytes:
            raise RuntimeError(f"{self.name}: {shared_mem} bytes of shared memory, of which "
                               f"{self.max_dynamic_shared_size_bytes} were asked for")
        values = [_value(a) for a in args]
        arguments = (Argument * len(args))(*[Argument(v.ctypes.data, _kind(d), d.itemsize, isinstance(a, ndarray))
                                             for a, (v, d) in zip(args, values)])
        Function.launched.append(self.name)
        launch = Launch(tuple(grid) + (1,) * (3 - len(grid)), tuple(block) + (1,) * (3 - len(block)), shared_mem,
                        len(Function.launched) % 2, len(args), arguments)
        if min(*launch.grid, *launch.block) < 1 or max(launch.grid[1:]) > 65535:
            raise RuntimeError(f"{self.name}: a grid of {grid} blocks of {block} threads")
        problem = self.run(ctypes.byref(launch))
        if problem:
            raise RuntimeError(f"{self.name}: {problem.decode()}")
        for number, a in enumerate(arrays):
            if a.memory is not None and not a.memory.intact():
                raise RuntimeError(f"{self.name}: wrote beside array {number}, of shape {a.shape}")


def _value(x):
    """The bytes that are passed for an argument, and the dtype of what it is or points to."""
    if isinstance(x, ndarray):
        return np.array([x.host.ctypes.data], np.uint64), x.dtype
    value = np.atleast_1d(np.asarray(x))  # Python's numbers become 8 bytes, as with CuPy
    return value, value.dtype


def _kind(dtype):
    return ord("g" if dtype.name == "bfloat16" else "f" if dtype.kind == "f" else "i" if dtype.kind in "biu" else "\0")


def _properties(device):
    return {"name": b"CPU in place of an H100", "major": 9, "minor": 0, "multiProcessorCount": 132,
            "sharedMemPerBlockOptin": 232448, "maxThreadsPerMultiProcessor": 2048, "totalGlobalMem": 80 * 2**30,
            "l2CacheSize": 50 * 2**20, "sharedMemPerMultiprocessor": 233472}


def module():
    """The module to put in sys.modules["cupy"]."""
    made = types.ModuleType("cupy")
    runtime = types.SimpleNamespace(getDeviceProperties=_properties, getDeviceCount=lambda: 1, getDevice=lambda: 0)
    cuda = types.ModuleType("cupy.cuda")
    cuda.__dict__.update(Device=Device, runtime=runtime, is_available=lambda: True)
    made.__dict__.update(
        ndarray=ndarray, empty=empty, asarray=asarray, array=lambda x, dtype=None: asarray(x, dtype, copy=True),
        ascontiguousarray=lambda x: x if x.flags.c_contiguous else _filled(np.ascontiguousarray(x.host)),
        zeros=lambda shape, dtype=float: _filled(np.zeros(shape, dtype)),
        ones=lambda shape, dtype=float: _filled(np.ones(shape, dtype)),
        full=lambda shape, value, dtype=None: _filled(np.full(shape, _host(value), dtype)),
        empty_like=_like(np.empty_like), zeros_like=_like(np.zeros_like), ones_like=_like(np.ones_like),
        RawModule=RawModule, cuda=cuda, matmul=matmul, __version__="14.0.0",
        __getattr__=_numpy_name)
    return made


def _numpy_name(name):
    """Any other function, by NumPy's of that name; types and constants are NumPy's own."""
    found = getattr(np, name)
    if isinstance(found, type) or not callable(found):
        return found
    return lambda *args, **kwargs: _call(found, *args, **kwargs)


_operators()
