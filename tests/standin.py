"""A stand-in for CuPy on machines without a GPU: arrays that no host code reads unasked.

It is a module of CuPy's shape around array-api-strict, whose arrays live on a device that NumPy cannot reach. What the
array API does not have fails here, and so does what would stop a GPU or copy from it without being seen: `float(x)`,
`x.item()`, ``if x:``, ``np.asarray(x)``, a loop over an array, and NumPy arrays and scalars among the arguments.
`x.get()` is the one way to the host, as it is CuPy's. Names outside the standard are served if they are in
`outside_array_api.OUTSIDE`.

    with standin.playing():                       # "cuda" is the stand-in inside the block
        x = Tensor([1.0, 2.0], device="cuda")

Sums and products of matrices are taken in another order than NumPy takes them: as on a GPU, the last digits differ.
"""

import contextlib
import functools
import operator
import sys
import types
import weakref
from unittest import mock

import numpy as np
from outside_array_api import OUTSIDE

try:
    import array_api_strict as strict
    from array_api_strict._array_object import Array as Strict
    from array_api_strict._dtypes import DType
except ImportError:  # it is a package for developers: its tests are skipped without it
    strict = None

#: Names withheld although they are in `OUTSIDE`, and those that were used.
withheld, used = set(), set()
#: How often an array was copied to the host.
reads = 0

_DTYPES = {"bool": np.bool_} | {name: getattr(np, name) for name in (
    "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float32", "float64")}


def _outside(name):
    """Note the use of a name outside the array API; refuse one that is not listed."""
    if name not in OUTSIDE or name in withheld:
        raise AttributeError(f"{name} is outside the array API and not listed in tests/outside_array_api.py")
    used.add(name)


def _device():
    return strict.Device("device1")


def inner(x):
    """An argument as array-api-strict takes it; NumPy's arrays and scalars are refused, as by CuPy."""
    if isinstance(x, ndarray):
        return x.strict
    if isinstance(x, (list, tuple)):
        return type(x)(inner(part) for part in x)
    if isinstance(x, np.ndarray):
        raise TypeError(f"Unsupported type {type(x)}: an array of the host among those of the device")
    if isinstance(x, np.generic):
        raise TypeError(f"Unsupported type {type(x)}: a scalar of NumPy's, which would promote")
    if isinstance(x, np.dtype) or (isinstance(x, type) and (x is bool or issubclass(x, np.generic))):
        name = np.dtype(x).name
        if name not in _DTYPES:
            raise TypeError(f"dtype {name} is outside the array API")
        return getattr(strict, name)
    return x


def outer(x):
    """A result of array-api-strict as the stand-in's."""
    if isinstance(x, Strict):
        return ndarray(x)
    if isinstance(x, DType):
        return _DTYPES[x._np_dtype.name]
    if isinstance(x, (list, tuple)):
        return type(x)(map(outer, x)) if type(x) in (list, tuple) else tuple(map(outer, x))
    return x


def host(x):
    """An argument as NumPy takes it, for names outside the standard."""
    if isinstance(x, ndarray):
        return x.strict._array
    if isinstance(x, (list, tuple)):
        return type(x)(host(part) for part in x)
    inner(x)
    return x


def device(x):
    """A NumPy array or scalar, or several, as arrays of the device, sharing their memory."""
    if isinstance(x, (list, tuple)):
        return type(x)(map(device, x))
    return ndarray(Strict._new(np.asarray(x), device=_device()))


class _Pointer(int):
    """CuPy's ``array.data``: where it begins."""

    @property
    def ptr(self):
        return int(self)


#: The array that first stood for a piece of memory, by NumPy's owner of it: what is a view of what.
_owners = weakref.WeakValueDictionary()


class ndarray:
    """An array on the device, with CuPy's surface as far as `minigrad.backend` uses it, and the array API's."""

    __slots__ = ("__weakref__", "base", "strict")
    __array_ufunc__ = None  # NumPy's operators leave it to ours, which refuse

    def __init__(self, array):
        self.strict = array
        root = array._array
        while isinstance(root.base, np.ndarray):
            root = root.base
        owner = _owners.get(id(root))
        if owner is None:
            self.base = None if root is array._array else ndarray(Strict._new(root, device=array.device))
            if self.base is None:
                _owners[id(root)] = self
        else:
            self.base = owner

    dtype = property(lambda self: self.strict._array.dtype)
    shape = property(lambda self: self.strict.shape)
    ndim = property(lambda self: self.strict.ndim)
    size = property(lambda self: self.strict._array.size)
    nbytes = property(lambda self: self.strict._array.nbytes)
    itemsize = property(lambda self: self.strict._array.itemsize)
    strides = property(lambda self: self.strict._array.strides)
    flags = property(lambda self: self.strict._array.flags)
    device = property(lambda self: types.SimpleNamespace(id=0))
    data = property(lambda self: _Pointer(self.strict._array.__array_interface__["data"][0]))
    mT = property(lambda self: outer(self.strict.mT))

    def get(self):
        """A copy on the host."""
        global reads  # noqa: PLW0603 - one count for the process
        reads += 1
        return self.strict._array.copy()

    def copy(self, order="C"):
        return device(self.strict._array.copy(order))

    def set(self, array, stream=None):
        """Copy from the host."""
        self.strict._array[...] = array

    def _refuse(self, *args, **kwargs):
        raise TypeError("a hidden copy to the host: an array of the device was asked for its value")

    __array__ = __bool__ = __float__ = __int__ = __index__ = __iter__ = __complex__ = _refuse
    item = tolist = tobytes = _refuse

    def __len__(self):
        return len(self.strict._array)

    def __repr__(self):
        return f"standin.{self.strict!r}"

    def __array_namespace__(self, api_version=None):
        return sys.modules[__name__]

    def __getitem__(self, key):
        return _indexed(self, key)

    def __setitem__(self, key, value):
        value = value if isinstance(value, (bool, int, float)) else inner(value)
        key = _complete(self, key)
        try:
            self.strict[inner(key)] = value
        except IndexError:
            _outside(".__setitem__")
            self.strict._array[host(key)] = value._array if isinstance(value, Strict) else value


def _complete(x, key):
    """A key that reaches every axis, as the standard wants it: NumPy and CuPy add the dots themselves."""
    parts = key if isinstance(key, tuple) else (key,)
    if any(part is Ellipsis or str(getattr(part, "dtype", "")) == "bool" for part in parts):
        return key
    return key if sum(part is not None for part in parts) == x.ndim else (*parts, Ellipsis)


def _indexed(x, key):
    try:
        return outer(x.strict[inner(_complete(x, key))])
    except IndexError:
        found = x.strict._array[host(key)]  # what NumPy refuses too is no question of the standard
        _outside(".__getitem__")
        return device(found)


def _operator(name):
    def operate(self, *others):
        result = getattr(self.strict, name)(*map(inner, others))
        return result if result is NotImplemented else self if result is self.strict else outer(result)

    operate.__name__ = name
    return operate


_BINARY = ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and", "or", "xor")
for _name in (*_BINARY, *(f"r{n}" for n in _BINARY), *(f"i{n}" for n in _BINARY), "lt", "le", "gt", "ge", "eq", "ne",
              "neg", "pos", "abs", "invert"):
    setattr(ndarray, f"__{_name}__", _operator(f"__{_name}__"))
ndarray.__hash__ = None

# ------------------------------------------------------------------ the namespace

#: Functions that make arrays of no array: on the device, not where array-api-strict makes them by default.
_CREATING = {"arange", "empty", "eye", "full", "linspace", "ones", "zeros"}


def _rolled(x, axis):
    return Strict._new(np.roll(x._array, 1, axis), device=x.device)


def _to_sum(x, axis=None, **_):
    """What is summed, begun at another place: as on a GPU, the order of the terms is not that of the CPU."""
    if axis == () or not x.ndim:
        return (x,)
    return (_rolled(x, tuple(range(x.ndim)) if axis is None else axis),)


def _to_multiply(x, y):
    """Two matrices with the terms of their products in another order."""
    return (_rolled(x, -1), _rolled(y, -2)) if min(x.ndim, y.ndim) > 1 else (x, y)


_ADDING = {"matmul": _to_multiply, "mean": _to_sum, "sum": _to_sum}


class _Function:
    """A function of the standard, or one of NumPy's that is listed as outside it."""

    def __init__(self, name):
        self.name = name
        self.call = getattr(strict, name, None)

    def __call__(self, *args, **kwargs):
        if self.call is None:
            _outside(self.name)
            result = operator.attrgetter(self.name)(np)(*map(host, args), **{k: host(v) for k, v in kwargs.items()})
            return None if result is None else device(result)
        if "out" in kwargs or len(args) > getattr(getattr(np, self.name, None), "nin", len(args)):
            return self._into(args, kwargs)
        if self.name in _CREATING:
            kwargs["device"] = _device()
        args = tuple(map(inner, args))
        if self.name in _ADDING:
            args = _ADDING[self.name](*args, **kwargs)
        return outer(self.call(*args, **{k: inner(v) for k, v in kwargs.items()}))

    def _into(self, args, kwargs):
        """Write the result where the last argument says."""
        _outside("out=")
        *given, out = args if "out" not in kwargs else (*args, kwargs["out"])
        getattr(np, self.name)(*map(host, given), out=host(out))
        return out

    def __getattr__(self, name):
        if name.startswith("__") or f"{self.name}.{name}" not in OUTSIDE:
            raise AttributeError(f"{self.name}.{name} is outside the array API and not listed")
        return _Function(f"{self.name}.{name}")


@functools.cache
def _function(name):
    return _Function(name)


def asarray(x, dtype=None, copy=None):
    """An array of the device: the one way there for NumPy's, which are copied."""
    if isinstance(x, ndarray):
        return x if dtype in (None, x.dtype) and not copy else device(np.array(host(x), dtype))
    return device(np.array(x, dtype))


def __getattr__(name):
    """The namespace of these arrays."""
    if name in _DTYPES:
        return _DTYPES[name]
    if name.startswith("_") or (name not in OUTSIDE and not hasattr(strict, name)):
        raise AttributeError(f"{name} is outside the array API and not listed in tests/outside_array_api.py")
    return _function(name) if callable(getattr(strict, name, np)) or name in OUTSIDE else getattr(strict, name)


# ------------------------------------------------------------------ the module


class _Generator:
    """CuPy's generator of random numbers: fewer distributions than NumPy's."""

    def __init__(self, bit_generator):
        self.host = np.random.default_rng([bit_generator.seed, 1])  # other numbers than those of the CPU

    def _draw(self, name, *args, **kwargs):
        return device(getattr(self.host, name)(*args, **kwargs))

    def random(self, size=None, dtype=np.float64):
        return self._draw("random", size, dtype)

    def standard_normal(self, size=None, dtype=np.float64):
        return self._draw("standard_normal", size, dtype)

    def standard_exponential(self, size=None, dtype=np.float64):
        return self._draw("standard_exponential", size, dtype)

    def integers(self, low, high=None, size=None, dtype=np.int64, endpoint=False):
        return self._draw("integers", low, high, size, dtype, endpoint)


class _XORWOW:
    def __init__(self, seed, size=-1):
        self.seed = seed


class _Stream:
    """A stream, and an event of it: everything is done at once. `cupy_on_numpy` has streams that are not."""

    def __init__(self, non_blocking=False):
        self.ptr = 0

    def record(self):
        return self

    def wait_event(self, event):
        pass

    def synchronize(self):
        pass


class _Device(contextlib.nullcontext):
    def __init__(self, index=0):
        super().__init__()
        if index != 0:
            raise RuntimeError(f"cudaErrorInvalidDevice: there is no device {index}")

    def synchronize(self):
        """Everything is done at once."""


def cupy():
    """The module that stands for CuPy."""
    module = types.ModuleType("cupy")
    stream = _Stream()
    module.ndarray, module.asarray = ndarray, asarray
    module.empty = lambda shape, dtype: device(np.empty(shape, dtype))
    module.__version__ = f"array-api-strict {strict.__version__}"
    module.cuda = types.SimpleNamespace(Device=_Device, is_available=lambda: True, get_current_stream=lambda: stream,
                                        Stream=_Stream)
    module.cuda.runtime = types.SimpleNamespace(
        CUDARuntimeError=type("CUDARuntimeError", (RuntimeError,), {}), getDevice=lambda: 0, getDeviceCount=lambda: 1,
        getDeviceProperties=lambda index: {"name": b"a stand-in"})
    module.random = types.SimpleNamespace(Generator=_Generator, XORWOW=_XORWOW)
    return module


@contextlib.contextmanager
def playing():
    """Let the stand-in be the GPU inside the block. Operations run their texts: kernels are for the real one."""
    import minigrad
    from minigrad import backend, kernels

    before = {name: sys.modules.get(name) for name in ("cupy", "cupyx")}
    names = mock.patch.object(backend, "_names_of", return_value=sys.modules[__name__])
    sys.modules["cupy"], sys.modules["cupyx"] = cupy(), types.SimpleNamespace(empty_pinned=np.empty)
    try:
        with names, kernels.disabled():
            yield
    finally:
        minigrad.manual_seed(0)  # lets go of the streams of the device
        used.clear()
        for name, module in before.items():
            del sys.modules[name]
            if module is not None:
                sys.modules[name] = module
