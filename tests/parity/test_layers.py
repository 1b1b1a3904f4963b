"""Layers against torch.nn: names and shapes of the state, values, gradients of first and second order, statistics."""

import inspect

import numpy as np
import pytest

import minigrad
from minigrad import layers
from minigrad.errors import MinigradError

torch = pytest.importorskip("torch")

TOLERANCE = 1e-7  # relative to the largest element, in float64


def draw(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def relative(ours, theirs):
    theirs = theirs.detach().numpy()
    ours = ours.numpy()
    assert ours.shape == theirs.shape
    assert ours.dtype == theirs.dtype
    return np.max(np.abs(ours - theirs), initial=0) / max(np.max(np.abs(theirs), initial=0), 1e-8)


def pair(name, *args, **options):
    """The same layer twice, ours with the parameters of torch's, in float64."""
    ours, theirs = getattr(layers, name)(*args, **options), getattr(torch.nn, name)(*args, **options).double()
    generator = torch.Generator().manual_seed(0)
    for parameter in theirs.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    ours.to("float64")
    assert ours.load_state_dict(theirs.state_dict()) == ([], [])
    return ours, theirs


def check_state(ours, theirs):
    mine, wanted = ours.state_dict(), theirs.state_dict()
    assert list(mine) == list(wanted)
    for name, tensor in mine.items():
        if not ("InstanceNorm" in type(ours).__name__ and name == "num_batches_tracked"):  # torch's stays 0
            assert relative(tensor, wanted[name]) < 1e-12, name


def check(ours, theirs, x, *more):
    """Values, then gradients of Σ y·u, then gradients of Σ (gradients)·v; u and v random."""
    mine = minigrad.Tensor(x, requires_grad=True)
    wanted = torch.tensor(x, requires_grad=True)
    y, z = ours(mine, *more), theirs(wanted, *map(torch.as_tensor, more))
    assert relative(y, z) < TOLERANCE
    my_leaves = [mine, *ours.parameters()]
    leaves = [wanted, *theirs.parameters()]
    u = draw(*y.shape, seed=1)
    first = minigrad.grad(y, my_leaves, minigrad.Tensor(u), create_graph=True)
    expected = torch.autograd.grad(z, leaves, torch.tensor(u), create_graph=True)
    for a, b in zip(first, expected):
        assert relative(a, b) < TOLERANCE
    mine, wanted = second_order(minigrad.grad, first, my_leaves, minigrad.Tensor), second_order(
        torch.autograd.grad, expected, leaves, torch.tensor)
    largest = max([1e-8, *(np.max(np.abs(b), initial=0) for b in wanted)])
    for a, b in zip(mine, wanted):
        assert np.max(np.abs(a - b), initial=0) / largest < TOLERANCE


def second_order(grad, gradients, leaves, tensor):
    """The gradients of Σ gradients·v, v random, as arrays; 0 for what they do not depend on."""
    live = [(g, tensor(draw(*g.shape, seed=2 + i))) for i, g in enumerate(gradients) if g.requires_grad]
    if not live:
        return [0.0 for _ in leaves]
    found = grad([g for g, _ in live], leaves, [v for _, v in live], allow_unused=True)
    return [0.0 if g is None else g.numpy() for g in found]


CASES = [
    *[("Linear", (5, 3), {"bias": bias}, shape) for bias in (True, False)
      for shape in ((5,), (4, 5), (2, 3, 5), (0, 5), (1, 5))],
    ("Linear", (1, 1), {}, (3, 1)),
    ("Conv2d", (4, 6, 3), {}, (2, 4, 6, 7)),
    ("Conv2d", (4, 6, 3), {}, (4, 6, 7)),
    ("Conv2d", (4, 6, 1), {"bias": False}, (2, 4, 3, 3)),
    ("Conv2d", (4, 6, (3, 2)), {"stride": 2, "padding": 1}, (2, 4, 6, 7)),
    ("Conv2d", (4, 6, (2, 3)), {"stride": (1, 2), "padding": (0, 2), "dilation": (2, 1), "groups": 2}, (2, 4, 6, 7)),
    ("Conv2d", (4, 4, 3), {"padding": "same", "groups": 4, "bias": False}, (2, 4, 5, 5)),
    ("Conv2d", (4, 4, (3, 5)), {"padding": "same", "dilation": 2}, (1, 4, 9, 9)),
    ("Conv2d", (4, 2, 3), {"padding": "valid", "stride": 3}, (1, 4, 9, 8)),
    *[("BatchNorm1d", (3,), options, shape) for shape in ((5, 3), (4, 3, 6), (1, 3, 2), (2, 3))
      for options in ({}, {"affine": False}, {"eps": 0.1}, {"bias": False})],
    *[("BatchNorm2d", (3,), options, shape) for shape in ((4, 3, 2, 5), (1, 3, 2, 2), (2, 3, 1, 1))
      for options in ({}, {"affine": False}, {"track_running_stats": False}, {"momentum": None})],
    ("BatchNorm2d", (1,), {}, (4, 1, 2, 2)),
    *[("LayerNorm", (normalized,), options, (2, 3, 4, 5)) for normalized in (5, (5,), (4, 5), (3, 4, 5), (2, 3, 4, 5))
      for options in ({}, {"bias": False}, {"elementwise_affine": False}, {"eps": 0.1})],
    ("LayerNorm", (6,), {}, (6,)),
    *[("BatchNorm3d", (2,), options, (3, 2, 2, 1, 2)) for options in ({}, {"affine": False}, {"momentum": None})],
    *[("GroupNorm", args, options, shape) for args, shape in (
        ((2, 4), (3, 4)), ((2, 4), (2, 4, 3)), ((4, 4), (2, 4, 3, 2)), ((1, 4), (2, 4, 2, 1, 2)), ((3, 6), (1, 6, 2)))
      for options in ({}, {"affine": False}, {"bias": False}, {"eps": 0.1})],
    *[(name, (2,), options, shape) for name, shape in (
        ("InstanceNorm1d", (3, 2, 4)), ("InstanceNorm2d", (3, 2, 2, 3)), ("InstanceNorm3d", (2, 2, 2, 1, 2)),
        ("InstanceNorm1d", (2, 4)), ("InstanceNorm2d", (2, 2, 3)), ("InstanceNorm3d", (2, 2, 1, 2)))
      for options in ({}, {"affine": True}, {"affine": True, "bias": False}, {"track_running_stats": True},
                      {"affine": True, "track_running_stats": True, "momentum": 0.3})],
    *[("RMSNorm", (normalized,), options, (2, 3, 4, 5)) for normalized in (5, (5,), (4, 5), (2, 3, 4, 5))
      for options in ({}, {"elementwise_affine": False}, {"eps": 0.1})],
    *[("LocalResponseNorm", args, options, shape) for args, options in (
        ((2,), {}), ((3, 0.5), {}), ((5, 2.0, 0.5, 2.0), {}), ((9,), {"alpha": 1.0}))
      for shape in ((2, 5, 3), (2, 5, 2, 3), (2, 5, 2, 1, 2))],
    *[("MaxPool2d", args, options, (2, 3, 7, 8)) for args, options in (
        ((2,), {}), ((3, 2), {"padding": 1}), ((2, 1), {"dilation": (2, 3)}), (((3, 2),), {"ceil_mode": True}),
        ((3, 2, 1), {"ceil_mode": True}))],
    ("MaxPool2d", (2,), {}, (3, 6, 6)),
    *[("AvgPool2d", args, options, (2, 3, 7, 8)) for args, options in (
        ((2,), {}), ((3, 2, 1), {}), ((3, 2, 1), {"count_include_pad": False}), ((3, 2), {"ceil_mode": True}),
        ((3, 2, 1), {"ceil_mode": True, "count_include_pad": False}), (((2, 3),), {"divisor_override": 4}))],
    *[("AdaptiveAvgPool2d", (size,), {}, (2, 3, 7, 8)) for size in (1, 3, (2, 5), (None, 4), (7, None), (9, 3))],
    *[(name, (), {}, (4, 5)) for name in ("ReLU", "LeakyReLU", "GELU", "SiLU", "Sigmoid", "Tanh", "Softplus")],
    ("LeakyReLU", (0.3,), {}, (4, 5)),
    ("GELU", ("tanh",), {}, (4, 5)),
    ("Softplus", (3.0, 1.0), {}, (4, 5)),
    *[(name, (dim,), {}, (3, 4, 5)) for name in ("Softmax", "LogSoftmax") for dim in (0, 1, -1)],
    ("Flatten", (), {}, (2, 3, 4)),
    ("Flatten", (0, 1), {}, (2, 3, 4)),
    ("Identity", (), {}, (2, 3)),
    ("Dropout", (0.0,), {}, (2, 3)),
]


@pytest.mark.parametrize(("name", "args", "options", "shape"), CASES)
def test_values_and_gradients_in_training(name, args, options, shape):
    ours, theirs = pair(name, *args, **options)
    check(ours, theirs, draw(*shape))
    check_state(ours, theirs)


@pytest.mark.parametrize(("name", "args", "options", "shape"), [c for c in CASES if c[0].startswith(("Batch", "Inst"))])
def test_running_statistics_in_evaluation_after_training(name, args, options, shape):
    ours, theirs = pair(name, *args, **options)
    for seed in range(3):
        x = draw(*shape, seed=seed) * 3 + 1
        ours(minigrad.Tensor(x)), theirs(torch.tensor(x))
    check_state(ours, theirs)
    check(ours.eval(), theirs.eval(), draw(*shape, seed=9))
    check_state(ours, theirs)


@pytest.mark.parametrize("options", [{}, {"momentum": 0.3}, {"momentum": None}, {"momentum": 0.0}, {"momentum": 1.0}])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_running_statistics_over_many_steps(options, dtype):
    ours, theirs = layers.BatchNorm2d(4, **options), torch.nn.BatchNorm2d(4, **options)
    ours.to(dtype), theirs.to(getattr(torch, dtype))
    for seed in range(12):
        x = (draw(1 + seed % 4, 4, 3, 2, seed=seed) * (seed + 1) - seed).astype(dtype)
        ours(minigrad.Tensor(x)), theirs(torch.tensor(x))
    tolerance = 2e-6 if dtype == "float32" else 1e-13
    assert relative(ours.running_mean, theirs.running_mean) < tolerance
    assert relative(ours.running_var, theirs.running_var) < tolerance
    assert ours.num_batches_tracked.item() == theirs.num_batches_tracked.item() == 12


@pytest.mark.parametrize("options", [
    {}, {"reduction": "sum"}, {"reduction": "none"}, {"ignore_index": 2}, {"label_smoothing": 0.1},
    {"weight": np.array([1.0, 2.0, 0.5, 3.0])},
    {"weight": np.array([1.0, 2.0, 0.5, 3.0]), "label_smoothing": 0.3, "ignore_index": 1},
])
@pytest.mark.parametrize("shape", [(6, 4), (2, 4, 3, 2), (4,)])
@pytest.mark.parametrize("probabilities", [False, True])
def test_cross_entropy(options, shape, probabilities):
    if probabilities and "ignore_index" in options:
        pytest.skip("torch: ignore_index is not supported for floating point target")
    ours = layers.CrossEntropyLoss(**options)
    if "weight" in options:
        options = options | {"weight": torch.tensor(options["weight"])}
    theirs = torch.nn.CrossEntropyLoss(**options)
    if probabilities:
        target = np.random.default_rng(3).random(shape)
    else:
        classes = shape[:1] + shape[2:] if len(shape) > 1 else ()
        target = np.asarray(np.random.default_rng(3).integers(0, 4, classes))
    check(ours, theirs, draw(*shape), target)
    assert list(ours.state_dict()) == list(theirs.state_dict())


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_mean_squared_error(reduction):
    check(layers.MSELoss(reduction=reduction), torch.nn.MSELoss(reduction=reduction), draw(3, 4), draw(3, 4, seed=5))


def test_max_pool_indices():
    x = draw(2, 3, 7, 8)
    for args in ((2,), (3, 2, 1), (2, 1, 0, 3)):
        y, where = layers.MaxPool2d(*args, return_indices=True)(minigrad.Tensor(x))
        z, place = torch.nn.MaxPool2d(*args, return_indices=True)(torch.tensor(x))
        np.testing.assert_array_equal(y.numpy(), z.numpy())
        np.testing.assert_array_equal(where.numpy(), place.numpy(), strict=True)


# No bias before BatchNorm: its gradient is exactly 0, so relative errors of it say nothing.
NETS = [
    lambda nn: nn.Sequential(nn.Conv2d(1, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2),
                             nn.Conv2d(4, 6, 3, bias=False), nn.BatchNorm2d(6), nn.SiLU(), nn.AdaptiveAvgPool2d(1),
                             nn.Flatten(), nn.Linear(6, 3)),
    lambda nn: nn.Sequential(nn.Flatten(), nn.Linear(64, 8, bias=False), nn.BatchNorm1d(8), nn.GELU(), nn.LayerNorm(8),
                             nn.Linear(8, 3), nn.LogSoftmax(1)),
]


@pytest.mark.parametrize("make", NETS)
def test_whole_networks(make):
    ours, theirs = make(layers).to("float64"), make(torch.nn).double()
    assert repr(ours) == repr(theirs)
    ours.load_state_dict(theirs.state_dict())
    check(ours, theirs, draw(4, 1, 8, 8))
    check_state(ours, theirs)
    theirs.load_state_dict({name: torch.tensor(t.numpy()) for name, t in ours.state_dict().items()})


@pytest.mark.parametrize("make", NETS)
def test_second_order_in_evaluation(make):
    ours, theirs = make(layers).to("float64").eval(), make(torch.nn).double().eval()
    ours.load_state_dict(theirs.state_dict())
    check(ours, theirs, draw(4, 1, 8, 8))


@pytest.mark.parametrize("name", sorted({case[0] for case in CASES}))
def test_signatures(name):
    """Arguments have torch's names, order and defaults; what we add comes last."""
    def arguments(kind):
        return {p.name: p for p in inspect.signature(kind.__init__).parameters.values() if p.name != "self"}

    mine, wanted = arguments(getattr(layers, name)), arguments(getattr(torch.nn, name))
    if set(wanted) == {"args", "kwargs"}:
        return
    positional = [p for p in wanted if wanted[p].kind is not inspect.Parameter.KEYWORD_ONLY]
    assert list(mine)[: len(positional)] == positional
    for argument in wanted:
        if argument not in ("dtype", "dim"):  # ours name float32; the axis of a softmax must be given
            assert mine[argument].default == wanted[argument].default, argument


@pytest.mark.parametrize(("name", "args"), [
    ("Linear", (300, 200)), ("Conv2d", (20, 50, 5)), ("Conv2d", (20, 50, (3, 5), 1, 0, 1, 10))])
def test_initial_distributions(name, args):
    ours, theirs = getattr(layers, name)(*args), getattr(torch.nn, name)(*args)
    for mine, wanted in zip(ours.parameters(), theirs.parameters()):
        bound = np.abs(wanted.detach().numpy()).max()
        n = mine.size
        assert abs(np.abs(mine.numpy()).max() / bound - 1) < 12 / n + 1e-4
        ratio = mine.numpy().var() / wanted.detach().numpy().var()
        assert abs(ratio - 1) < 6 * (1.6 / n) ** 0.5


@pytest.mark.parametrize("function", ["xavier_uniform_", "xavier_normal_", "kaiming_uniform_", "kaiming_normal_"])
def test_init_functions_have_the_spread_of_torchs(function):
    for shape in ((200, 100), (64, 32, 3, 5)):
        mine = getattr(layers.init, function)(layers.Parameter(np.empty(shape))).numpy()
        wanted = getattr(torch.nn.init, function)(torch.empty(shape, dtype=torch.float64)).numpy()
        assert abs(mine.std() / wanted.std() - 1) < 6 * mine.size**-0.5
    mine, wanted = (inspect.signature(getattr(i, function)).parameters for i in (layers.init, torch.nn.init))
    assert [(p.name, p.default) for p in mine.values()] == [(p.name, p.default) for p in wanted.values()]


@pytest.mark.parametrize("nonlinearity", ["linear", "conv2d", "sigmoid", "tanh", "relu", "leaky_relu", "selu"])
def test_gains(nonlinearity):
    assert layers.init.calculate_gain(nonlinearity) == pytest.approx(torch.nn.init.calculate_gain(nonlinearity))


@pytest.mark.parametrize(("name", "args", "shape"), [
    ("BatchNorm1d", (3,), (1, 3)), ("BatchNorm1d", (3,), (2, 4)), ("BatchNorm1d", (3,), (2, 3, 4, 5)),
    ("BatchNorm2d", (3,), (2, 3)), ("BatchNorm2d", (3,), (1, 3, 1, 1)), ("Linear", (3, 2), (2, 4)),
    ("Conv2d", (3, 2, 3), (1, 2, 5, 5)), ("Conv2d", (3, 2, 6), (1, 3, 5, 5)), ("MaxPool2d", (6,), (1, 3, 5, 5)),
    ("LayerNorm", (4,), (2, 3)), ("BatchNorm3d", (3,), (2, 3, 4, 5)), ("BatchNorm3d", (3,), (1, 3, 1, 1, 1)),
    ("InstanceNorm1d", (3,), (2, 3, 4, 5)), ("InstanceNorm1d", (3,), (2, 3, 1)), ("InstanceNorm2d", (3,), (2, 3)),
    ("InstanceNorm2d", (3,), (2, 3, 1, 1)), ("GroupNorm", (2, 4), (2, 6)), ("GroupNorm", (4, 4), (1, 4)),
    ("GroupNorm", (3, 4), (2, 4)), ("RMSNorm", (4,), (2, 3)), ("LocalResponseNorm", (2,), (4,)),
])
def test_what_torch_refuses_we_refuse(name, args, shape):
    with pytest.raises((ValueError, RuntimeError)):
        getattr(torch.nn, name)(*args)(torch.ones(shape))
    with pytest.raises(MinigradError):
        getattr(layers, name)(*args)(minigrad.ones(shape))
