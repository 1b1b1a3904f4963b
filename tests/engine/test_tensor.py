"""Tensor as a Python object: dtypes, sharing, operators, printing, conversions, copies, and what it refuses."""

import copy
import io
import operator
import pickle

import numpy as np
import pytest

import minigrad as mg
from minigrad import Buffer, Parameter, Tensor, ops
from minigrad.errors import ArgumentError, DeviceError, DtypeError, GraphError, MinigradError, ShapeError


def leaf(*values, dtype=np.float64):
    return Tensor(np.array(values, dtype), requires_grad=True)


# ------------------------------------------------------------------ dtypes and sharing


@pytest.mark.parametrize(("data", "dtype"), [
    (1.5, np.float32), (2, np.int64), (True, np.bool_), ([1.0, 2.0], np.float32), ([1, 2], np.int64),
    ([[True]], np.bool_), ([1, 2.5], np.float32), ((1, 2), np.int64), ([], np.float32), (range(3), np.int64),
    (np.zeros(2), np.float64), (np.zeros(2, np.float16), np.float16), (np.zeros(2, np.int8), np.int8),
    (np.float64(1), np.float64), (np.float32(1), np.float32), (np.int32(1), np.int32), (np.array(1.0), np.float64),
    (Tensor([1.0]), np.float32), (np.zeros(2, ">f8"), np.float64),
], ids=lambda v: repr(v)[:30])
def test_dtype_of_new_tensors(data, dtype):
    assert Tensor(data).dtype == dtype
    assert mg.tensor(data).dtype == dtype
    assert Tensor(data, dtype=np.float16).dtype == np.float16
    assert Tensor(data, dtype="float64").dtype == np.float64


@pytest.mark.parametrize("data", ["text", 1j, [None], [{}], np.array(["a"]), np.zeros(2, "datetime64[s]")], ids=repr)
def test_other_elements_are_refused(data):
    with pytest.raises(DtypeError, match="Tensor: got elements of dtype"):
        Tensor(data)


def test_uneven_lists_are_refused():
    with pytest.raises(ShapeError, match="nested list of uneven lengths"):
        Tensor([[1.0, 2.0], [3.0]])


def test_arrays_are_shared():
    array = np.zeros(3)
    t = Tensor(array)
    assert t.data is array
    assert t.numpy() is array
    assert t.detach().data is array
    array[0] = 7
    assert t.tolist() == [7, 0, 0]
    assert mg.tensor(array).data is not array


def test_subclasses_of_arrays_become_plain():
    t = Tensor(np.ma.masked_array([1.0, 2.0]))
    assert type(t.data) is np.ndarray


def test_results_keep_the_dtype():
    for dtype in (np.float16, np.float32, np.float64):
        x = Tensor(np.ones(3, dtype), requires_grad=True)
        y = ((x * 2 + 1) / 3 - 0.5) ** 2
        assert y.dtype == dtype
        assert ops.mean(ops.exp(-y)).dtype == dtype
        y.sum().backward()
        assert x.grad.dtype == dtype


def test_promotion_is_numpys():
    dtypes = [np.bool_, np.int8, np.int64, np.float16, np.float32, np.float64]
    for a in dtypes:
        for b in dtypes:
            assert (Tensor(np.ones(2, a)) + Tensor(np.ones(2, b))).dtype == (np.ones(2, a) + np.ones(2, b)).dtype


def test_properties():
    t = Tensor(np.zeros((2, 3), np.float32))
    assert (t.shape, t.ndim, t.size, len(t), str(t.device)) == ((2, 3), 2, 6, 2, "cpu")
    assert t.is_leaf
    assert t.node is None
    assert t.T.shape == t.mT.shape == (3, 2)
    assert (leaf(1.0) * 2).node.op.name == "Multiply"
    assert not (leaf(1.0) * 2).is_leaf


@pytest.mark.parametrize("data", [[1, 2], [True], np.int8(3)], ids=repr)
def test_only_floating_point_requires_gradients(data):
    with pytest.raises(DtypeError, match=r"requires_grad.*wanted floating point"):
        Tensor(data, requires_grad=True)


def test_requires_grad_():
    x = Tensor([1.0])
    assert x.requires_grad_() is x
    assert x.requires_grad
    assert not x.requires_grad_(False).requires_grad
    y = leaf(1.0) * 2
    assert y.requires_grad_().requires_grad
    with pytest.raises(GraphError, match=r"a result of Multiply.*detach\(\)"):
        y.requires_grad_(False)


# ------------------------------------------------------------------ operators

OPERATORS = [operator.add, operator.sub, operator.mul, operator.truediv, operator.pow, operator.gt, operator.ge,
             operator.lt, operator.le, operator.eq, operator.ne]
OTHERS = {
    "int": 2, "float": 1.5, "bool": True, "array": np.array([1.0, 2.0, 3.0], np.float32),
    "float64 array": np.array([1.0, 2.0, 3.0]), "column": np.ones((2, 1), np.float32), "int array": np.array([1, 2, 3]),
    "float32 scalar": np.float32(1.5), "float64 scalar": np.float64(1.5), "int scalar": np.int64(2),
    "0-d": np.array(2.0),
}


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
@pytest.mark.parametrize("op", OPERATORS, ids=lambda f: f.__name__)
def test_operators_with_numbers_and_arrays_on_both_sides(op, other):
    array = np.array([0.5, 1.5, 3.0], np.float32)
    x = Tensor(array, requires_grad=True)
    for found, wanted in ((op(x, other), op(array, other)), (op(other, x), op(other, array))):
        assert isinstance(found, Tensor)
        assert found.dtype == wanted.dtype
        np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-6)
        if wanted.dtype != np.bool_:
            assert found.requires_grad
            x.grad = None
            found.sum().backward()
            assert x.grad.shape == (3,)


def test_matrix_products_on_both_sides():
    a, b = np.arange(6.0).reshape(2, 3), np.arange(6.0).reshape(3, 2)
    for found in (Tensor(a) @ Tensor(b), Tensor(a) @ b, a @ Tensor(b)):
        assert isinstance(found, Tensor)
        np.testing.assert_array_equal(found.numpy(), a @ b)


def test_unary_and_logical_operators():
    x, p, q = leaf(-1, 2), Tensor([True, False]), Tensor([True, True])
    assert (-x).tolist() == [1, -2]
    assert abs(x).tolist() == [1, 2]
    assert (p & q).tolist() == [True, False]
    assert (p | q).tolist() == [True, True]
    assert (~p).tolist() == [False, True]
    assert (np.array([False, True]) & q).tolist() == [False, True]
    assert (np.array([False, True]) | p).tolist() == [True, True]
    assert (x > 0).tolist() == [False, True]


def test_whole_quotients_and_remainders():
    x = leaf(7, -7)
    assert (x // 2).tolist() == [3, -4]
    assert (x % 3).tolist() == [1, 2]
    assert (7 // x).tolist() == [1, -1]
    assert (9 % x).tolist() == [2, -5]
    assert (np.array([9, 9]) % x).tolist() == [2, -5]
    assert not (x // 2).requires_grad
    assert mg.grad((9 % x).sum(), x)[0].tolist() == [-1, 2]
    assert +x is x


@pytest.mark.parametrize("call", [
    lambda x: x & x, lambda x: x | True, lambda x: ~x, lambda x: mg.logical_and(x > 0, 1),
])
@pytest.mark.parametrize("dtype", [np.int64, np.float32])
def test_only_bools_are_logical(call, dtype):
    """On integers NumPy's operators work bit by bit: 1 and 2 would be 0."""
    with pytest.raises(DtypeError, match="wanted elements of dtype bool"):
        call(Tensor(np.array([1, 2], dtype)))


def test_integers_have_no_negative_powers_and_no_elements_are_complex():
    with pytest.raises(DtypeError, match=r"power: got int64\[1\] to the power -1"):
        Tensor([2]) ** -1
    with pytest.raises(DtypeError, match="cast: got dtype complex128"):
        Tensor([2.0]).astype(complex)


def test_python_numbers_are_weak():
    """0.1 does not make float32 into float64, a NumPy scalar does, as in NumPy 2."""
    x = Tensor([1.0])
    assert (x * 0.1).dtype == (0.1 * x).dtype == (x**2).dtype == (2.0**x).dtype == np.float32
    assert (x * np.float64(0.1)).dtype == np.float64
    assert (Tensor([1]) * 0.5).dtype == np.float64
    assert (Tensor([1]) + 1).dtype == np.int64
    assert (Tensor([True]) + 1).dtype == np.int64


def test_augmented_assignment_binds_the_name_anew():
    x = leaf(1, 2)
    y = x
    for step in (operator.iadd, operator.isub, operator.imul, operator.itruediv, operator.ipow):
        y = step(y, 2)
    y += 1
    assert y is not x
    assert x.tolist() == [1, 2]
    assert y.tolist() == [2, 5]
    y.sum().backward()
    assert x.grad.tolist() == [2, 4]


def test_arrays_do_not_swallow_tensors():
    """array += tensor would lose the history."""
    a = np.ones(2)
    with pytest.raises(TypeError, match=r"numpy\.add does not take Tensors"):
        a += leaf(1, 2)
    assert a.tolist() == [1, 1]


@pytest.mark.parametrize(("call", "said"), [
    (np.sin, r"numpy\.sin does not take Tensors: minigrad\.sin does"),
    (np.absolute, r"minigrad\.abs does"),
    (np.exp, r"minigrad\.exp does"),
    (lambda x: np.add(x, 1, out=np.zeros(2)), r"minigrad\.add does"),
    (np.add.reduce, r"numpy\.add"),
    (lambda x: np.fmod(x, 2), r"numpy\.fmod does not take Tensors: take \.detach\(\)\.numpy\(\) first"),
    (lambda x: np.stack([x, x]), r"numpy\.stack would lose the gradient of a Tensor: minigrad\.stack does it"),
    (lambda x: np.concatenate([np.ones(2), x]), r"minigrad\.concat does"),
    (lambda x: np.where(x.numpy() > 1, x, 0), r"minigrad\.where does"),
    (lambda x: np.einsum("i,i", x * 2, x), r"numpy\.einsum would lose .* minigrad\.einsum does it"),
    (np.linalg.det, r"would lose .* take \.detach\(\)\.numpy\(\) first"),
], ids=["sin", "abs", "exp", "out", "reduce", "fmod", "stack", "concatenate", "where", "einsum", "no name of ours"])
def test_numpy_functions_name_ours(call, said):
    with pytest.raises(TypeError, match=said):
        call(leaf(1, 2))


def test_the_array_api_namespace():
    assert Tensor([1.0]).__array_namespace__() is ops


# ------------------------------------------------------------------ values are not changed


def test_setitem_is_refused():
    x = Tensor([1.0, 2.0])
    with pytest.raises(TypeError, match=r"minigrad\.where.*assign"):
        x[0] = 5.0
    assert x.tolist() == [1, 2]


def test_iteration():
    x = Tensor(np.arange(6.0).reshape(3, 2), requires_grad=True)
    rows = list(x)
    assert [r.tolist() for r in rows] == [[0, 1], [2, 3], [4, 5]]
    first, *_ = x
    (first * 2).sum().backward()
    assert x.grad.tolist() == [[2, 2], [0, 0], [0, 0]]
    assert list(Tensor(np.zeros((0, 2)))) == []
    with pytest.raises(TypeError):
        iter(Tensor(1.0))
    with pytest.raises(TypeError, match="without axes"):
        len(Tensor(1.0))


def test_hash_is_identity():
    x, y = Tensor([1.0]), Tensor([1.0])
    assert len({x, y, x}) == 2
    assert {x: 1}[x] == 1


# ------------------------------------------------------------------ numbers out of Tensors


def test_single_elements():
    for x in (Tensor(2.5), Tensor([2.5]), Tensor([[2.5]])):
        assert x.item() == float(x) == 2.5
        assert int(x) == 2
        assert f"{x:.3f}|{x:>6.1f}" == "2.500|   2.5"
    assert isinstance(Tensor(2).item(), int)
    assert isinstance(Tensor(True).item(), bool)
    assert [10, 20, 30][Tensor(1)] == 20
    assert bool(Tensor([1.0]))
    assert not Tensor(0)


@pytest.mark.parametrize("call", [float, int, bool, Tensor.item, lambda x: f"{x:.2f}"],
                         ids=["float", "int", "bool", "item", "format"])
@pytest.mark.parametrize("shape", [(2,), (0,), (1, 2)], ids=str)
def test_more_or_fewer_elements_are_no_number(call, shape):
    with pytest.raises(ValueError, match=r"item: got shape .* wanted exactly one element"):
        call(Tensor(np.ones(shape)))


def test_fractions_are_no_index():
    with pytest.raises(TypeError, match="float32; wanted an integer"):
        [1, 2][Tensor(1.0)]


@pytest.mark.parametrize(("tensor", "text"), [
    (lambda: Tensor([1.0, 2.5]), "Tensor([1. , 2.5], float32)"),
    (lambda: Tensor(3), "Tensor(3, int64)"),
    (lambda: leaf(1), "Tensor([1.], float64, requires_grad=True)"),
    (lambda: leaf(1) * 2, "Tensor([2.], float64, from Multiply)"),
    (lambda: Tensor([True], name="mask"), "Tensor([ True], bool, name='mask')"),
    (lambda: Parameter([0.5]), "Parameter([0.5], float32)"),
    (lambda: Parameter([0.5], requires_grad=False), "Parameter([0.5], float32, requires_grad=False)"),
    (lambda: Buffer([1, 2]), "Buffer([1, 2], int64)"),
    (lambda: Tensor(np.zeros((0, 2))), "Tensor([], float64)"),
], ids=range(9))
def test_repr(tensor, text):
    assert repr(tensor()) == f"{tensor()}" == str(tensor()) == text


def test_repr_of_many_elements_is_short():
    assert len(repr(Tensor(np.zeros((1000, 1000))))) < 500


# ------------------------------------------------------------------ to NumPy, other libraries, files


def test_array_protocol():
    x = leaf(1, 2)
    assert np.asarray(x) is x.data
    assert np.array(x) is not x.data
    assert np.asarray(x, dtype=np.float32).dtype == np.float32
    assert np.asarray(x * 2).tolist() == [2, 4]  # it never refuses
    np.testing.assert_array_equal(np.stack([x.detach(), x.detach()]), [[1, 2], [1, 2]])
    assert np.allclose(x, [1, 2])
    assert np.shape(x) == (2,)


def test_dlpack_shares_memory():
    x = Tensor(np.arange(3.0))
    array = np.from_dlpack(x)
    assert np.shares_memory(array, x.data)
    back = mg.from_dlpack(np.arange(4, dtype=np.int32))
    assert back.tolist() == [0, 1, 2, 3]
    assert back.dtype == np.int32
    source = np.zeros(2)
    assert np.shares_memory(mg.from_dlpack(source).data, source)


@pytest.mark.parametrize("make", [
    lambda: Tensor(np.arange(3.0), requires_grad=True, name="x"), lambda: Parameter(np.ones((2, 2), np.float16)),
    lambda: Parameter([1.0], requires_grad=False), lambda: Buffer(np.array([1, 2]), persistent=False),
    lambda: Tensor(np.arange(6.0).reshape(2, 3).T),
], ids=["tensor", "parameter", "frozen", "buffer", "transposed"])
@pytest.mark.parametrize("how", [copy.deepcopy, copy.copy, lambda x: pickle.loads(pickle.dumps(x))],  # noqa: S301
                         ids=["deepcopy", "copy", "pickle"])
def test_copies(make, how):
    x = make()
    y = how(x)
    assert type(y) is type(x)
    np.testing.assert_array_equal(y.numpy(), x.numpy())
    assert (y.dtype, y.requires_grad, y.name) == (x.dtype, x.requires_grad, x.name)
    x.name = "named"
    assert how(x).name == "named"
    assert not np.shares_memory(y.data, x.data)
    if isinstance(x, Buffer):
        assert y.persistent == x.persistent


def test_deepcopy_takes_the_gradient_along_and_copies_shared_tensors_once():
    x = leaf(1, 2)
    (x * x).sum().backward()
    y, z = copy.deepcopy([x, x])
    assert y is z
    assert y.grad.tolist() == [2, 4]
    assert y.grad is not x.grad


@pytest.mark.parametrize("how", [copy.deepcopy, copy.copy, pickle.dumps], ids=["deepcopy", "copy", "pickle"])
def test_results_are_not_copied_without_their_history(how):
    with pytest.raises(GraphError, match=r"a result of Multiply; wanted a leaf. detach\(\) it first"):
        how(leaf(1) * 2)


def test_numpy_saves_tensors():
    file = io.BytesIO()
    np.save(file, Tensor([1.0, 2.0]))
    file.seek(0)
    assert np.load(file).tolist() == [1, 2]


# ------------------------------------------------------------------ to(), detach(), making new ones


def test_to():
    x = leaf(1.5, 2.5)
    assert x.to("cpu") is x
    assert x.to(mg.Device("cpu")) is x
    assert x.cpu() is x
    assert x.to("float64") is x
    for y in (x.to(dtype=np.float32), x.to("float32"), x.to(np.float32), x.to("cpu", np.float32), x.astype(np.float32)):
        assert y.dtype == np.float32
        x.grad = None
        y.sum().backward()
        assert x.grad.dtype == np.float64


def test_unknown_devices():
    with pytest.raises(ArgumentError, match=r"to: got 'gpu'; wanted a device such as 'cpu' or 'cuda:0', or a dtype"):
        Tensor([1.0]).to("gpu")
    with pytest.raises(DeviceError, match="'cuda:x'"):
        Tensor([1.0]).to("cuda:x")
    with pytest.raises(DeviceError, match=r"'tpu'; wanted 'cpu', 'cuda', 'cuda:N' or 'auto'"):
        Tensor([1.0], device="tpu")


def test_detach_ends_the_history():
    x = leaf(1, 2)
    y = (x * 2).detach()
    assert y.is_leaf
    assert not y.requires_grad
    assert mg.grad((y * x).sum(), x)[0].tolist() == [2, 4]
    assert ops.stop_gradient(x * 2).is_leaf
    assert ops.stop_gradient(3.0) == 3.0


def test_new_tensors():
    assert mg.zeros(2, 3).shape == mg.zeros((2, 3)).shape == mg.empty([2, 3]).shape == (2, 3)
    assert mg.ones(2).tolist() == [1, 1]
    assert mg.full((2,), 7).dtype == np.int64
    assert mg.full(2, 0.5).dtype == np.float32
    assert mg.full(2, True).dtype == np.bool_
    assert mg.arange(3).tolist() == [0, 1, 2]
    assert mg.arange(1, 2, 0.5).dtype == np.float32
    assert mg.linspace(0, 1, 3).tolist() == [0, 0.5, 1]
    assert mg.eye(2, 3).tolist() == [[1, 0, 0], [0, 1, 0]]
    assert mg.ones(2, requires_grad=True).requires_grad
    assert mg.zeros().shape == ()
    assert sorted(mg.randperm(5).tolist()) == [0, 1, 2, 3, 4]
    assert mg.zeros_like(leaf(1, 2)).dtype == np.float64


def test_random_tensors_repeat_with_the_seed():
    def draw():
        return [mg.randn(3).tolist(), mg.rand(2, 2).tolist(), mg.randint(0, 10, (4,)).tolist(), mg.randperm(6).tolist()]

    mg.manual_seed(5)
    first = draw()
    second = draw()
    mg.manual_seed(5)
    assert draw() == first != second
    own = mg.Generator(5)
    assert mg.randn(3, generator=own).tolist() == first[0]
    state = own.get_state()
    following = mg.rand(3, generator=own).tolist()
    own.set_state(state)
    assert mg.rand(3, generator=own).tolist() == following
    values = mg.randn(10_000, generator=mg.Generator(0)).numpy()
    assert values.dtype == np.float32
    assert abs(values.mean()) < 0.05
    assert abs(values.std() - 1) < 0.05
    for bad in (-1, 1.5, "seed"):
        with pytest.raises(ArgumentError, match="manual_seed"):
            mg.manual_seed(bad)


def test_every_error_is_one_of_ours_and_one_of_pythons():
    for error, builtin in ((ShapeError, ValueError), (DtypeError, TypeError), (DeviceError, RuntimeError),
                           (GraphError, RuntimeError), (ArgumentError, ValueError)):
        assert issubclass(error, MinigradError)
        assert issubclass(error, builtin)
