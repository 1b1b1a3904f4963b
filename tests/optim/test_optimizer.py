"""What all optimizers share: groups, refusals, writing in place, and what is left alone."""

import copy
import pickle
import tracemalloc

import numpy as np
import pytest

import minigrad
from minigrad import Buffer, Parameter, Tensor
from minigrad.backend import cuda_problem
from minigrad.errors import ArgumentError, DtypeError, GraphError, ShapeError
from minigrad.optim import SGD, Adam, AdamW, Optimizer, slots

KINDS = [(SGD, {"momentum": 0.9}), (Adam, {"amsgrad": True}), (AdamW, {})]


def parameters(*shapes, dtype=np.float32):
    rng = np.random.default_rng(0)
    return [Parameter(rng.normal(size=shape).astype(dtype)) for shape in shapes]


def fill_gradients(ps, seed=1):
    rng = np.random.default_rng(seed)
    for p in ps:
        p.grad = Tensor(rng.normal(size=p.shape).astype(p.dtype))


def snapshot(optimizer):
    """All that a refused call must leave as it was."""
    elements = [p.data for group in optimizer.param_groups for p in group["params"]]
    return pickle.dumps((optimizer.state_dict(), elements))


# ------------------------------------------------------------------ groups


def test_groups_have_their_own_options():
    a, b = parameters((2,), (2,))
    optimizer = SGD([{"params": [a]}, {"params": b, "lr": 0.5, "name": "head"}], lr=0.25)
    before = [a.data.copy(), b.data.copy()]
    a.grad = b.grad = Tensor(np.ones(2, np.float32))
    optimizer.step()
    assert np.array_equal(a.data, before[0] - np.float32(0.25))
    assert np.array_equal(b.data, before[1] - np.float32(0.5))
    assert [group["lr"] for group in optimizer.param_groups] == [0.25, 0.5]
    assert "head: 1 parameters, lr=0.5" in repr(optimizer)


def test_gradients_are_forgotten_or_made_zeros():
    ps = parameters((2, 3), (4,))
    optimizer = SGD(ps)
    fill_gradients(ps[:1])
    optimizer.zero_grad(set_to_none=False)
    assert np.array_equal(ps[0].grad.numpy(), np.zeros((2, 3)))
    assert ps[1].grad is None
    optimizer.zero_grad()
    assert ps[0].grad is None


def test_a_group_can_be_added_between_steps():
    a, b = parameters((2,), (3,))
    optimizer = Adam([a])
    fill_gradients([a, b])
    optimizer.step()
    optimizer.add_param_group({"params": [b], "lr": 0.1})
    before = b.data.copy()
    optimizer.step()
    assert not np.array_equal(b.data, before)
    assert optimizer.state[a]["step"] == 2
    assert optimizer.state[b]["step"] == 1


def test_named_parameters_name_themselves_in_messages():
    a, b = parameters((2,), (3,))
    optimizer = SGD([("trunk.weight", a), ("head.weight", b)])
    assert optimizer.param_groups[0]["param_names"] == ["trunk.weight", "head.weight"]
    b.grad = Tensor(np.ones(2, np.float32))
    with pytest.raises(ShapeError, match=r"head\.weight.* \(3,\)"):
        optimizer.step()


def test_options_changed_between_steps_are_used_and_checked():
    (p,) = parameters((2,))
    optimizer = SGD([p], lr=1.0)
    fill_gradients([p])
    optimizer.param_groups[0]["lr"] = np.float64(0.0)
    before = p.data.copy()
    optimizer.step()
    assert np.array_equal(p.data, before)
    assert type(optimizer.param_groups[0]["lr"]) is float
    optimizer.param_groups[0]["lr"] = -1.0
    with pytest.raises(ArgumentError, match=r"lr=-1\.0"):
        optimizer.step()
    assert np.array_equal(p.data, before)


def test_step_calls_a_closure_with_recording_on():
    w = Parameter([2.0])
    optimizer = SGD([w], lr=0.25)

    def closure():
        optimizer.zero_grad()
        loss = (w * w).sum()
        loss.backward()
        return loss

    with minigrad.no_grad():
        assert optimizer.step(closure).item() == 4.0
    assert w.item() == 1.0


# ------------------------------------------------------------------ refusals


def test_parameter_lists_that_are_refused():
    (p,) = parameters((2,))
    frozen = [
        ([], ArgumentError, "empty parameter list"),
        (iter(()), ArgumentError, "generator"),
        (p, DtypeError, "ordered iterable"),
        ({p}, DtypeError, "of type set"),
        (3, DtypeError, "of type int"),
        ([p, p], ArgumentError, "number 1 twice"),
        ([{"params": [p]}, {"params": [p]}], ArgumentError, "number 0 twice"),
        ([{"params": [p]}, {"params": []}], ArgumentError, "empty parameter list"),
        ([{"params": [p]}, p], DtypeError, "mixed"),
        ([{"lr": 0.1}], ArgumentError, "'params'"),
        ([{"params": [p], "weight_decy": 0.1}], ArgumentError, "weight_decy.*weight_decay"),
        ([{"params": [p], "lr": -0.1}], ArgumentError, "lr=-0.1"),
        ([{"params": [p], "param_names": []}], ArgumentError, "0 param_names for 1"),
        ([p.data], DtypeError, "ndarray"),
        ([p * 2], GraphError, "Mul"),
        ([Buffer(np.arange(3))], DtypeError, "int64"),
        ([("a", p), Parameter([1.0])], ArgumentError, "without names"),
    ]
    for params, error, message in frozen:
        with pytest.raises(error, match=message):
            SGD(params)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (SGD, {"lr": -1}, "lr=-1"),
        (SGD, {"lr": float("nan")}, "lr=nan"),
        (SGD, {"lr": "0.1"}, "of type str"),
        (SGD, {"momentum": -0.1}, "momentum=-0.1"),
        (SGD, {"weight_decay": -0.1}, "weight_decay=-0.1"),
        (SGD, {"dampening": float("inf")}, "dampening=inf"),
        (SGD, {"nesterov": True}, "momentum > 0"),
        (SGD, {"nesterov": True, "momentum": 0.9, "dampening": 0.1}, "dampening = 0"),
        (Adam, {"lr": -1}, "Adam: got lr=-1"),
        (Adam, {"eps": -1e-8}, "eps"),
        (Adam, {"weight_decay": -1}, "weight_decay"),
        (Adam, {"betas": (1.0, 0.9)}, r"\[0, 1\)"),
        (AdamW, {"betas": (0.9, -0.1)}, r"betas\[1\]"),
        (AdamW, {"betas": 0.9}, "two numbers"),
    ],
)
def test_options_that_are_refused(kind, options, message):
    with pytest.raises((ArgumentError, DtypeError), match=message):
        kind(parameters((2,)), **options)


@pytest.mark.parametrize(("kind", "options"), KINDS)
@pytest.mark.parametrize(
    ("gradient", "error", "message"),
    [
        (Tensor(np.ones((3, 2), np.float32)), ShapeError, r"shape \(3, 2\)"),
        (Tensor(np.ones((2, 3), np.float64)), DtypeError, "float64"),
        (np.ones((2, 3), np.float32), DtypeError, "ndarray"),
    ],
)
def test_a_wrong_gradient_is_refused_before_anything_changes(kind, options, gradient, error, message):
    ps = parameters((4,), (2, 3))
    optimizer = kind(ps, **options)
    for _ in range(2):  # without state, and with it
        before = snapshot(optimizer)
        fill_gradients(ps)
        ps[1].grad = gradient
        with pytest.raises(error, match=rf"{kind.__name__}\.step for parameter 1 of shape \(2, 3\).*{message}"):
            optimizer.step()
        assert snapshot(optimizer) == before
        fill_gradients(ps)
        optimizer.step()


def test_read_only_memory_is_refused():
    array = np.ones(3)
    array.flags.writeable = False
    p = Parameter(array)
    p.grad = Tensor(np.ones(3))
    with pytest.raises(GraphError, match="read-only"):
        SGD([p]).step()


def test_a_parameter_of_another_shape_is_refused():
    (p,) = parameters((3,))
    optimizer = Adam([p])
    fill_gradients([p])
    optimizer.step()
    p.data = np.zeros(4, np.float32)
    fill_gradients([p])
    with pytest.raises(ShapeError, match=r"exp_avg of shape \(3,\)"):
        optimizer.step()


# ------------------------------------------------------------------ writing


@pytest.mark.parametrize(("kind", "options"), KINDS)
@pytest.mark.parametrize("limit", [1 << 16, 7])
def test_every_memory_order_is_kept_and_gives_the_same(kind, options, limit, monkeypatch):
    monkeypatch.setattr(slots, "CPU_BLOCK", limit)
    values = np.random.default_rng(0).normal(size=(6, 4, 5))
    layouts = [
        values.copy(),
        np.asfortranarray(values),
        np.ascontiguousarray(values.transpose(2, 0, 1)).transpose(1, 2, 0),
        np.zeros((6, 8, 5))[:, ::2],
        values[::-1].copy()[::-1],
    ]
    layouts[3][...] = values
    results = []
    for array in layouts:
        p = Parameter(array)
        strides = array.strides
        optimizer = kind([p], lr=0.1, **options)
        for seed in range(3):
            fill_gradients([p], seed)
            optimizer.step()
        assert p.data is array
        assert array.strides == strides
        for held in optimizer.state[p].values():
            if isinstance(held, np.ndarray) and (array.flags.c_contiguous or array.flags.f_contiguous):
                assert held.strides == strides
        results.append(array.copy())
    for result in results[1:]:
        assert np.array_equal(result, results[0])


@pytest.mark.parametrize(("kind", "options"), KINDS)
def test_gradients_are_not_written_to(kind, options):
    ps = parameters((2, 3), (2, 3))
    shared = np.ones((2, 3), np.float32)
    optimizer = kind(ps, weight_decay=0.1, maximize=True, **options)
    for p in ps:
        p.grad = Tensor(shared)
    optimizer.step()
    assert np.array_equal(shared, np.ones((2, 3)))


def test_parameters_without_gradient_are_passed_over():
    a, b = parameters((2,), (3,))
    optimizer = Adam([a, b], weight_decay=0.5)
    before = b.data.copy()
    for _ in range(3):
        optimizer.zero_grad()
        assert a.grad is None
        fill_gradients([a])
        optimizer.step()
    assert np.array_equal(b.data, before)
    assert b not in optimizer.state
    assert list(optimizer.state_dict()["state"]) == [0]


@pytest.mark.parametrize("kind", [SGD, Adam, AdamW])
def test_a_step_between_forward_and_backward_is_refused(kind):
    w = Parameter(np.array([[1.0, 2.0], [3.0, 4.0]]))
    x = Tensor(np.ones((2, 2)), requires_grad=True)
    optimizer = kind([w])
    w.grad = Tensor(np.ones((2, 2)))
    loss = (x @ w).sum()
    optimizer.step()
    with pytest.raises(GraphError, match=r"MatMul.*changed in place"):
        loss.backward()
    (x @ w).sum().backward()


def test_a_step_leaves_graphs_alone_that_do_not_need_the_parameter():
    w = Parameter(np.ones(3))
    optimizer = SGD([w], lr=1.0)
    loss = (w + 1.0).sum()
    w.grad = Tensor(np.zeros(3))
    optimizer.step()
    loss.backward()
    assert np.array_equal(w.grad.data, np.ones(3))


def test_a_gradient_that_is_the_parameter_itself():
    for kind, options in KINDS:
        p, q = parameters((5,), (5,))
        q.data = p.data.copy()
        p.grad, q.grad = p.detach(), Tensor(q.data.copy())
        for parameter in (p, q):
            kind([parameter], lr=0.1, weight_decay=0.1, **options).step()
        assert np.array_equal(p.data, q.data)


@pytest.mark.parametrize(("kind", "options"), KINDS)
def test_memory_is_flat(kind, options):
    ps = parameters((300, 1000), (1000,))
    optimizer = kind(ps, weight_decay=0.1, **options)
    fill_gradients(ps)

    def steps(count):
        for step in range(count):
            optimizer.param_groups[0]["lr"] = 0.1 / (1 + step)
            optimizer.step()
        return tracemalloc.get_traced_memory()

    tracemalloc.start()
    try:
        before = steps(50)[0]  # Python keeps some freed numbers and tuples for use again
        tracemalloc.reset_peak()
        after, peak = steps(300)
    finally:
        tracemalloc.stop()
    assert after - before < 3_000  # 10 bytes a step; an object takes more
    assert peak - before < 20_000  # a temporary for one block would take 260,000


@pytest.mark.parametrize(("kind", "options"), KINDS)
def test_intermediate_results_of_a_large_parameter_take_a_few_blocks(kind, options):
    ps = parameters((400, 5000))
    optimizer = kind(ps, weight_decay=0.1, **options)
    fill_gradients(ps)
    tracemalloc.start()
    try:
        optimizer.step()
        held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    arrays = sum(isinstance(a, np.ndarray) for a in optimizer.state[ps[0]].values())
    assert held - arrays * ps[0].data.nbytes < 2_000_000 < ps[0].data.nbytes


# ------------------------------------------------------------------ copies, moves, subclasses


def through_pickle(both):
    return pickle.loads(pickle.dumps(both))  # noqa: S301 - our own bytes


@pytest.mark.parametrize("copier", [copy.deepcopy, through_pickle])
@pytest.mark.parametrize(("kind", "options"), KINDS)
def test_a_copy_continues_alike_and_apart(copier, kind, options, monkeypatch):
    monkeypatch.setattr(slots, "CPU_BLOCK", 8)
    ps = parameters((6, 5), (3,))
    optimizer = kind(ps, **options)
    fill_gradients(ps)
    optimizer.step()
    others, other = copier((ps, optimizer))
    fill_gradients(ps, 2)
    optimizer.step()
    untouched = [p.data.copy() for p in ps]
    fill_gradients(others, 2)
    other.step()
    for p, q, kept in zip(ps, others, untouched):
        assert np.array_equal(p.data, q.data)
        assert np.array_equal(p.data, kept)


def test_state_follows_a_parameter_to_another_dtype():
    ps = parameters((6, 5))
    optimizer = Adam(ps, lr=0.1)
    fill_gradients(ps)
    optimizer.step()
    ps[0].data = ps[0].data.astype(np.float64)
    fill_gradients(ps, 2)
    optimizer.step()
    state = optimizer.state[ps[0]]
    assert state["step"] == 2
    assert state["exp_avg"].dtype == np.float64


def test_a_subclass_is_its_formula():
    class SignDescent(Optimizer):
        scratches = 1

        def __init__(self, params, lr):
            super().__init__(params, {"lr": lr})

        def checked(self, options):
            return {"lr": float(options["lr"])}

        def initial_state(self, array, options):
            return {}

        def numbers(self, options, step, first):
            return (options["lr"],)

        def update(self, xp, p, g, state, scratch, options, numbers):
            xp.subtract(p, xp.multiply(xp.sign(g, scratch[0]), numbers[0], scratch[0]), p)

    p = Parameter([1.0, 1.0, 1.0])
    p.grad = Tensor([5.0, 0.0, -0.1])
    SignDescent([p], lr=0.5).step()
    assert np.array_equal(p.data, [0.5, 1.0, 1.5])


def test_the_base_is_no_optimizer():
    with pytest.raises(TypeError, match="abstract"):
        Optimizer(parameters((2,)), {"lr": 0.1})


@pytest.mark.gpu
@pytest.mark.skipif(bool(cuda_problem()), reason=cuda_problem())
@pytest.mark.parametrize(("kind", "options"), KINDS)
@pytest.mark.parametrize("limit", [1 << 22, 7])
def test_cupy_arrays(kind, options, limit, monkeypatch):
    import cupy

    monkeypatch.setattr(slots, "GPU_BLOCK", limit)
    ps = parameters((6, 5), (3,), (), (4,))
    ps[0].data = np.asfortranarray(ps[0].data)
    ps[3].data = ps[3].data.astype(np.float16)
    ours = [Parameter(cupy.asarray(p.data, order="K")) for p in ps]
    optimizer, on_gpu = kind(ps, lr=0.1, **options), kind(ours, lr=0.1, **options)
    for seed in range(5):
        fill_gradients(ps, seed)
        for p, q in zip(ps, ours):
            q.grad = Tensor(cupy.asarray(p.grad.data))
        optimizer.step()
        on_gpu.step()
    assert ours[0].data.flags.f_contiguous
    for p, q in zip(ps, ours):
        assert np.abs(q.numpy() - p.data).max() <= (1e-3 if p.dtype == np.float16 else 1e-6) * np.abs(p.data).max()
    on_gpu.load_state_dict(optimizer.state_dict())
    ours[1].grad = ps[1].grad
    with pytest.raises(minigrad.errors.DeviceError, match="a gradient on cpu"):
        on_gpu.step()
    ours[1].grad = Tensor(cupy.asarray(ps[1].grad.data))
    moved = ours[1].numpy().copy()
    ours[1].data, ours[1].grad = moved, ps[1].grad  # the state follows to the CPU
    on_gpu.step()
    optimizer.step()
    assert np.abs(moved - ps[1].data).max() <= 1e-6 * np.abs(moved).max()
