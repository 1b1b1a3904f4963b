"""The contract of grad() and backward(): accumulation, freed graphs, unused inputs, several outputs, deep graphs."""

import numpy as np
import pytest
from cases import relative

import minigrad as mg
from minigrad import Tensor, ops
from minigrad.errors import DtypeError, GraphError, ShapeError
from minigrad.graph import walk


def leaf(*values, dtype=np.float64):
    return Tensor(np.array(values, dtype), requires_grad=True)


# ------------------------------------------------------------------ accumulation


def test_backward_accumulates_into_leaves():
    x, w = leaf(1, 2), leaf(3, 4)
    (x * w).sum().backward()
    (x * w).sum().backward()
    (x * 10).sum().backward()
    assert x.grad.tolist() == [16, 18]
    assert w.grad.tolist() == [2, 4]
    assert not x.grad.requires_grad


def test_backward_starts_with_the_gradient_given():
    x = leaf(1, 2, 3)
    y = x * x
    for gradient in (np.array([1.0, 10, 100]), Tensor([1, 10, 100]), Tensor(np.array([1, 10, 100], np.float32))):
        x.grad = None
        y.backward(gradient, retain_graph=True)
        assert x.grad.tolist() == [2, 40, 600]
        assert x.grad.dtype == np.float64


def test_gradients_do_not_share_memory():
    """Add passes one array on to both its inputs, and Reshape a view: each .grad must be one's own all the same."""
    a, b, c = leaf(1, 1, 1), leaf(2, 2, 2), leaf(3, 3, 3)
    start = Tensor(np.array([1.0, 2, 3]))
    (a + b + c.reshape(3)).backward(start)
    a.grad.assign(0)
    assert b.grad.tolist() == c.grad.tolist() == start.tolist() == [1, 2, 3]


def test_gradients_that_are_views_of_one_another_do_not_share_memory():
    """The gradient of a transpose is a view as large as what it views, which another leaf may have received."""
    a, b, c = (Tensor(np.ones((2, 3)), requires_grad=True) for _ in range(3))
    start = Tensor(np.arange(6.0).reshape(2, 3))
    (a + b.mT.mT + c.mT.mT * 1).backward(start)
    arrays = [t.numpy() for t in (start, a.grad, b.grad, c.grad)]
    assert not any(np.shares_memory(x, y) for i, x in enumerate(arrays) for y in arrays[:i])
    d, e = (Tensor(np.ones(shape), requires_grad=True) for shape in ((2, 3), (3, 2)))
    ((d + e.mT) * 2).backward(start)
    assert not np.shares_memory(d.grad.numpy(), e.grad.numpy())
    assert e.grad.tolist() == (2 * start.numpy().T).tolist()


def test_gradients_can_be_written_to():
    """The gradient of a sum is a broadcast, whose elements share one place."""
    x = leaf(1, 2, 3)
    x.sum().backward()
    x.grad.assign(np.array([5.0, 6, 7]))
    assert x.grad.tolist() == [5, 6, 7]
    (g,) = mg.grad(x.sum(), x)
    g.assign(np.array([5.0, 6, 7]))
    assert g.tolist() == [5, 6, 7]


def test_a_leaf_is_its_own_gradient():
    x = leaf(2)
    x.backward()
    assert x.grad.tolist() == [1]
    assert mg.grad(x, x)[0].tolist() == [1]
    y = x * 3
    assert mg.grad(y, y)[0].tolist() == [1]


def test_interior_results_have_no_grad_unless_retained():
    x = leaf(1, 2)
    y = x * 3
    kept = y * 1
    kept.retain_grad()
    kept.retain_grad()
    (kept * kept).sum().backward()
    assert y.grad is None
    assert kept.grad.tolist() == [6, 12]
    assert x.grad.tolist() == [18, 36]


def test_retained_gradients_share_no_memory_either():
    x = leaf(1, 2)
    y = x + 1
    y.retain_grad()
    (y * y).sum().backward()
    y.grad.assign(0)
    assert x.grad.tolist() == [4, 6]


def test_grad_touches_no_dot_grad():
    x, w = leaf(1, 2), leaf(3, 4)
    (g,) = mg.grad((x * w).sum(), x)
    assert g.tolist() == [3, 4]
    assert x.grad is None
    assert w.grad is None


# ------------------------------------------------------------------ freed graphs


@pytest.mark.parametrize("again", [lambda y, x: y.backward(), mg.grad], ids=["backward", "grad"])
def test_a_second_backward_needs_retain_graph(again):
    x = leaf(1, 2)
    y = (x * x).sum()
    y.backward()
    with pytest.raises(GraphError, match=r"backward of Multiply.*freed.*retain_graph=True"):
        again(y, x)
    assert x.grad.tolist() == [2, 4]


def test_retained_graphs_give_the_same_again():
    x = leaf(1, 2)
    y = (x * x).sum()
    for i in range(1, 4):
        y.backward(retain_graph=True)
        assert x.grad.tolist() == [2 * i, 4 * i]
    assert mg.grad(y, x)[0].tolist() == [2, 4]  # the last use frees it
    with pytest.raises(GraphError):
        mg.grad(y, x)


def test_operations_that_keep_nothing_can_always_go_again():
    x = leaf(1, 2)
    y = (x + 1).sum()
    y.backward()
    y.backward()
    assert x.grad.tolist() == [2, 2]


def test_create_graph_retains():
    x = leaf(2.0)
    y = x * x * x
    (g,) = mg.grad(y, x, create_graph=True)
    (h,) = mg.grad(g, x, create_graph=True)
    (k,) = mg.grad(h, x)
    assert (g.item(), h.item(), k.item()) == (12, 12, 6)


def test_only_the_branch_that_was_needed_is_freed():
    x, w = leaf(2.0), leaf(3.0)
    a, b = x * x, w * w
    y = a * b
    mg.grad(y, x)
    assert mg.grad(b, w)[0].item() == 6


def test_backward_with_create_graph():
    x = leaf(2.0)
    (x * x * x).backward(create_graph=True)
    assert x.grad.requires_grad
    assert mg.grad(x.grad, x)[0].item() == 12
    x.grad = None  # leaf → grad → graph → leaf is a cycle; this breaks it


# ------------------------------------------------------------------ what grad() refuses and allows


def test_unused_inputs():
    x, w = leaf(1.0), leaf(2.0)
    with pytest.raises(GraphError, match=r"input 1 of shape \(1,\), on which no output depends.*allow_unused"):
        mg.grad((x * x).sum(), (x, w))
    g, none = mg.grad((x * x).sum(), (x, w), allow_unused=True)
    assert g.tolist() == [2]
    assert none is None
    detached = x.detach() * w
    assert mg.grad(detached, (x, w), allow_unused=True)[0] is None


@pytest.mark.parametrize(("call", "error", "said"), [
    (lambda x, y: mg.grad(y, x), GraphError, r"shape \(2,\) and no gradient for it"),
    (lambda x, y: y.backward(), GraphError, r"shape \(2,\) and no gradient for it"),
    (lambda x, y: mg.grad(y, x, np.ones(3)), ShapeError, r"shape \(3,\); wanted the output's shape, \(2,\)"),
    (lambda x, y: mg.grad(y, x, np.ones((2, 1))), ShapeError, r"\(2, 1\)"),
    (lambda x, y: mg.grad(y, x, (np.ones(2), np.ones(2))), ShapeError, "2 grad_outputs; wanted one for each of 1"),
    (lambda x, y: mg.grad(y, x, [1.0]), DtypeError, "gradient of type float"),
    (lambda x, y: y.backward(1.0), DtypeError, "gradient of type float"),
    (lambda x, y: mg.grad(y.sum(), Tensor([1.0])), GraphError, "input 0 .* does not require a gradient"),
    (lambda x, y: mg.grad(Tensor([1.0]), x), GraphError, "does not require a gradient"),
    (lambda x, y: Tensor(1.0).backward(), GraphError, "does not require a gradient"),
    (lambda x, y: y.detach().sum().backward(), GraphError, "no_grad"),
], ids=lambda v: v if isinstance(v, str) else "")
def test_refusals_leave_everything_as_it_was(call, error, said):
    x = leaf(1, 2)
    y = x * x
    with pytest.raises(error, match=said):
        call(x, y)
    assert x.grad is None
    assert mg.grad(y, x, np.ones(2))[0].tolist() == [2, 4]  # and the graph is not freed


@pytest.mark.parametrize(("call", "said"), [
    (lambda x, y: mg.grad(y, np.ones(2)), "grad: got input 0 of type ndarray; wanted a Tensor"),
    (lambda x, y: mg.grad(y, [x, 1.0]), "input 1 of type float"),
    (lambda x, y: mg.grad(3.0, x), "grad: got an output of type float; wanted a Tensor"),
    (lambda x, y: mg.vjp(lambda x: x, np.ones(2)), "vjp: got input 0 of type ndarray"),
    (lambda x, y: mg.jvp(lambda x: x, 1.0, x), "jvp: got input 0 of type float"),
], ids=["array", "number", "output", "vjp", "jvp"])
def test_only_tensors_have_gradients(call, said):
    x = leaf(1, 2)
    with pytest.raises(DtypeError, match=said):
        call(x, (x * x).sum())


def test_inputs_may_come_from_an_iterator():
    x, w = leaf(1, 2), leaf(3, 4)
    assert [g.tolist() for g in mg.grad((x * w).sum(), (t for t in (x, w)))] == [[3, 4], [1, 2]]


def test_an_unused_input_is_refused_before_anything_is_freed():
    x, w = leaf(1, 2), leaf(3, 4)
    y = (x * x).sum()
    with pytest.raises(GraphError, match="on which no output depends"):
        mg.grad(y, (x, w))
    assert mg.grad(y, x)[0].tolist() == [2, 4]


def test_gradients_from_grad_share_no_memory_either():
    x, w, start = leaf(1, 2), leaf(3, 4), Tensor(np.ones(2))
    gx, gw, again = mg.grad(x + w, (x, w, x), start)
    gx.assign(5)
    assert gw.tolist() == again.tolist() == start.tolist() == [1, 1]
    one = leaf(1.0)
    (g,) = mg.grad(one.sum(), one)  # a broadcast of one element is contiguous, yet read-only
    assert g.assign(2).tolist() == [2]


def test_grad_outputs_may_be_left_out_one_by_one():
    x = leaf(1, 2)
    (g,) = mg.grad((x * x, x.sum()), x, (np.array([1.0, 10.0]), None))
    assert g.tolist() == [3, 41]


def test_inputs_may_be_results():
    x = leaf(1, 2)
    y = x * 3
    z = (y * y).sum() + x.sum()
    gy, gx = mg.grad(z, (y, x), retain_graph=True)
    assert gy.tolist() == [6, 12]
    assert gx.tolist() == [19, 37]
    assert mg.grad(z, (y, y))[1].tolist() == [6, 12]


def test_one_output_named_twice_counts_twice():
    x = leaf(3.0)
    y = x * x
    assert mg.grad((y, y), x)[0].item() == 12


# ------------------------------------------------------------------ shapes of graphs


def test_both_inputs_of_one_operation():
    x = leaf(3.0)
    assert mg.grad(x + x, x)[0].item() == 2
    assert mg.grad(x * x, x)[0].item() == 6
    assert mg.grad(x - x, x)[0].item() == 0
    assert mg.grad(x / x, x)[0].item() == 0


def test_diamonds():
    x = leaf(2.0)
    a = x * x
    b, c = a * 3, a * a
    y = b * c + b  # 3x⁶ + 3x²
    assert mg.grad(y, x)[0].item() == 18 * 32 + 12


def test_sixty_doublings_run_once_each():
    """Visiting paths instead of nodes would take 2⁶⁰ steps."""
    x = leaf(1.0)
    y = x
    for _ in range(60):
        y = y + y
    assert len(walk([y.edge])) == 60
    assert mg.grad(y, x)[0].item() == 2.0**60


def test_nodes_run_in_the_order_they_were_made_not_found():
    """`early` is reached twice, once over a detour that is made later: it must wait for both gradients."""
    x = leaf(1.5)
    early = x * x
    late = early
    for _ in range(5):
        late = late * 1.5
    assert mg.grad(early * late, x)[0].item() == pytest.approx(1.5**5 * 4 * 1.5**3)


@pytest.mark.parametrize("create_graph", [False, True])
def test_a_chain_of_100000_operations(create_graph):
    x = leaf(0.5)
    y = x
    for _ in range(50_000):
        y = (y * 1.00001) + 1e-6
    (g,) = mg.grad(y, x, create_graph=create_graph)
    assert g.item() == pytest.approx(1.00001**50_000, rel=1e-9)
    del y, g  # freeing must not recurse either


def test_wide_graphs():
    x = leaf(1.0)
    assert mg.grad(sum((x * i for i in range(1000)), x * 0), x)[0].item() == 499_500


# ------------------------------------------------------------------ several outputs


ALL = [(0, 1, 2, 3), (0,), (1,), (2,), (3,), (0, 3), (1, 2)]


@pytest.mark.parametrize("used", ALL, ids=str)
def test_missing_output_gradients(used):
    """Each statistic may be the only one that matters, and their gradients add up."""
    x = Tensor(np.random.default_rng(0).normal(size=(5, 2)), requires_grad=True)
    rng = np.random.default_rng(1)
    cotangents = [rng.normal(size=s) for s in ((5, 2), (1, 2), (1, 2), (1, 2))]
    found = mg.grad([ops.batch_norm(x)[k] for k in used], x, [cotangents[k] for k in used])[0]
    wanted = np.zeros((5, 2))
    for k in used:
        y = x - ops.mean(x, 0, keepdims=True)
        variance = ops.mean(y * y, 0, keepdims=True)
        r = 1 / ops.sqrt(variance + 1e-5)
        wanted += mg.grad((y * r, ops.mean(x, 0, keepdims=True), variance, r)[k], x, cotangents[k])[0].numpy()
    assert relative(found.numpy(), wanted) <= 1e-12


def test_an_output_is_an_input_too():
    x = Tensor(np.random.default_rng(0).normal(size=(5, 2)), requires_grad=True)
    y, mean, variance, _ = ops.batch_norm(x)
    total = (y * y).sum() + (variance * 3).sum()
    gv, gm = mg.grad(total, (variance, mean), allow_unused=True)
    assert gv.tolist() == [[3, 3]]
    assert gm is None


# ------------------------------------------------------------------ modes, reentry


def test_backward_inside_no_grad():
    x = leaf(2.0)
    y = x * x
    with mg.no_grad():
        y.backward()
        (x.detach() * 2)
    assert x.grad.item() == 4


def test_second_derivatives_inside_no_grad():
    """create_graph asks for a recording, whatever the surroundings."""
    x = leaf(2.0)
    y = x * x * x
    with mg.no_grad():
        (g,) = mg.grad(y, x, create_graph=True)
        (h,) = mg.grad(g, x)
    assert h.item() == 12


def test_graphs_of_gradients_inside_no_grad():
    """Casts of what backward starts with and sums in .grad are part of the graph that is asked for."""
    x, start = leaf(2.0), Tensor(np.ones(1, np.float32), requires_grad=True)
    y = x * x
    with mg.no_grad():
        (g,) = mg.grad(y, x, start, create_graph=True)
        assert mg.grad(g, start)[0].tolist() == [4]
        y.backward(create_graph=True)
        y.backward(start, create_graph=True)
    assert x.grad.tolist() == [8]
    assert mg.grad(x.grad, x)[0].tolist() == [4]
    x.grad = None


def test_backward_records_nothing():
    x = leaf(2.0)
    (g,) = mg.grad(x * x * x, x)
    assert g.is_leaf
    assert not g.requires_grad


def test_what_backward_records_belongs_to_the_layer_of_the_forward():
    scope = ((None, "", "Net"), "first", "Linear")
    x = leaf(2.0)
    with mg.modes.switch(scope=scope):
        y = x * x * x
    (g,) = mg.grad(y, x, create_graph=True)
    inside = [node.scope for node in walk([g.edge]) if node.op.name == "Multiply"]
    assert len(inside) > 2
    assert set(inside) == {scope}


def test_backward_inside_a_hook():
    """The engine keeps no state of its own between calls. Hooks run as backward does, without recording."""
    x, w = leaf(2.0), leaf(3.0)

    def hook(g):
        with mg.enable_grad():
            (w * w * g.item()).backward()

    x.register_hook(hook)
    (x * x).backward()
    assert x.grad.item() == 4
    assert w.grad.item() == 24


def test_two_graphs_share_a_part():
    x = leaf(2.0)
    shared = x * x
    (g,) = mg.grad(shared * 3, x, retain_graph=True)
    (h,) = mg.grad(shared * shared, x)
    assert (g.item(), h.item()) == (12, 32)
