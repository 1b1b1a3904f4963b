"""state_dict and load_state_dict: training continues bit for bit; what does not fit is named and changes nothing."""

import json

import numpy as np
import pytest
from safetensors.numpy import load, save

from minigrad import Parameter, Tensor
from minigrad.errors import StateError
from minigrad.optim import SGD, Adam, AdamW

KINDS = [
    (SGD, {}),
    (SGD, {"momentum": 0.9, "nesterov": True}),
    (Adam, {"amsgrad": True, "weight_decay": 0.1}),
    (AdamW, {"betas": (0.8, 0.9)}),
]
SHAPES = ((6, 5), (5,), ())


def model(seed=0, dtype=np.float32):
    rng = np.random.default_rng(seed)
    return [Parameter(np.asfortranarray(rng.normal(size=shape).astype(dtype))) for shape in SHAPES]


def groups(ps):
    return [{"params": ps[:1], "name": "matrices"}, {"params": ps[1:], "lr": 0.2, "name": "vectors"}]


def train(optimizer, ps, seeds):
    for seed in seeds:
        rng = np.random.default_rng(seed)
        for p in ps:
            p.grad = Tensor(rng.normal(size=p.shape).astype(p.dtype))
        optimizer.step()


def through_files(saved):
    """What safetensors and JSON give back of a state."""
    arrays, rest = {}, {i: {} for i in saved["state"]}
    for i, state in saved["state"].items():
        for name, held in state.items():
            if isinstance(held, np.ndarray):
                arrays[f"{i}/{name}"] = held
            else:
                rest[i][name] = held
    back = json.loads(json.dumps({"state": rest, "param_groups": saved["param_groups"]}))
    for key, array in load(save(arrays)).items():
        index, name = key.split("/")
        back["state"][index][name] = array
    return back


@pytest.mark.parametrize("travel", [lambda saved: saved, through_files])
@pytest.mark.parametrize(("kind", "options"), KINDS)
def test_training_continues_bit_for_bit(kind, options, travel):
    ps = model()
    optimizer = kind(groups(ps), lr=0.1, **options)
    train(optimizer, ps, range(4))
    saved = travel(optimizer.state_dict())
    others = [Parameter(p.data.copy(order="K")) for p in ps]
    other = kind(groups(others), lr=9.0)  # options are taken over
    other.load_state_dict(saved)
    train(optimizer, ps, range(4, 8))
    train(other, others, range(4, 8))
    for p, q in zip(ps, others):
        assert np.array_equal(p.data, q.data)
        assert q.data.strides == p.data.strides
    assert str(other.state_dict()) == str(optimizer.state_dict())


def test_the_layout_is_torchs():
    ps = model()
    optimizer = Adam(groups(ps), lr=0.1)
    train(optimizer, ps, range(3))
    saved = optimizer.state_dict()
    assert set(saved) == {"state", "param_groups"}
    assert [group["params"] for group in saved["param_groups"]] == [[0], [1, 2]]
    assert saved["param_groups"][1]["lr"] == 0.2
    assert set(saved["state"]) == {0, 1, 2}
    assert set(saved["state"][0]) == {"step", "exp_avg", "exp_avg_sq"}
    assert saved["state"][0]["step"] == 3
    assert saved["state"][0]["exp_avg"].shape == (6, 5)


def test_a_saved_state_is_no_part_of_the_optimizer():
    ps = model()
    optimizer = SGD(ps, momentum=0.9)
    train(optimizer, ps, range(2))
    saved = optimizer.state_dict()
    kept = saved["state"][0]["momentum_buffer"].copy()
    train(optimizer, ps, range(2))
    assert np.array_equal(saved["state"][0]["momentum_buffer"], kept)
    optimizer.load_state_dict(saved)
    train(optimizer, ps, range(2))
    assert np.array_equal(saved["state"][0]["momentum_buffer"], kept)


def test_loading_keeps_group_dicts_and_forgets_later_state():
    ps = model()
    optimizer = SGD(ps, momentum=0.5)
    group = optimizer.param_groups[0]
    fresh = optimizer.state_dict()
    train(optimizer, ps, range(2))
    optimizer.load_state_dict(fresh)
    assert optimizer.param_groups[0] is group
    assert not optimizer.state


def test_state_of_an_option_that_is_off_now_is_kept():
    ps = model()
    optimizer = SGD(ps, momentum=0.5)
    train(optimizer, ps, range(2))
    optimizer.param_groups[0]["momentum"] = 0.0
    train(optimizer, ps, range(1))
    other = SGD(model())
    other.load_state_dict(optimizer.state_dict())
    assert np.array_equal(
        other.state_dict()["state"][0]["momentum_buffer"], optimizer.state_dict()["state"][0]["momentum_buffer"]
    )


def put(saved, index, name, value):
    saved["state"][index][name] = value


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda s: s.pop("state"), "'state' and 'param_groups'"),
        (lambda s: s.update(state=None), "another layout"),
        (lambda s: s.update(param_groups=None), "another layout"),
        (lambda s: s["param_groups"].append(3), "another layout"),
        (lambda s: s["state"].update({0: 3}), "state 0 of type int"),
        (lambda s: s["param_groups"].pop(), "1 groups where the optimizer has 2"),
        (lambda s: s["param_groups"][1]["params"].pop(), "group 1 with 1 parameters where the optimizer has 2"),
        (lambda s: s["param_groups"][0].pop("eps"), "group 0 lacks 'eps'"),
        (lambda s: s["param_groups"][0].update(foreach=True), "group 0 has the unknown option 'foreach'"),
        (lambda s: s["param_groups"][1].update(lr=-1.0), "group 1: Adam: got lr=-1.0"),
        (lambda s: s["state"].update({7: {"step": 1}}), "state 7, of no parameter"),
        (lambda s: s["state"][2].pop("exp_avg"), "state 2 lacks 'exp_avg'"),
        (lambda s: put(s, 1, "momentum_buffer", 0), "state 1 has the unknown 'momentum_buffer'"),
        (lambda s: put(s, 0, "exp_avg", np.zeros((5, 6), np.float32)), r"state 0 has exp_avg of shape \(5, 6\)"),
        (lambda s: put(s, 0, "exp_avg_sq", np.zeros((6, 5))), "dtype float64"),
        (lambda s: put(s, 1, "exp_avg", None), "exp_avg of shape"),
        (lambda s: put(s, 1, "step", -1), "state 1 has step -1"),
        (lambda s: put(s, 1, "step", 1.5), "state 1 has step 1.5"),
        (lambda s: put(s, 1, "step", "many"), "state 1 has step 'many'"),
    ],
)
def test_what_does_not_fit_is_named_and_nothing_changes(spoil, message):
    ps = model()
    optimizer = Adam(groups(ps), lr=0.1)
    train(optimizer, ps, range(2))
    saved = optimizer.state_dict()
    train(optimizer, ps, range(2))
    before = str(optimizer.state_dict())
    spoil(saved)
    with pytest.raises(StateError, match=message):
        optimizer.load_state_dict(saved)
    assert str(optimizer.state_dict()) == before


def test_all_that_does_not_fit_is_named_at_once():
    ps = model()
    optimizer = Adam(ps)
    train(optimizer, ps, range(2))
    saved = optimizer.state_dict()
    for index in saved["state"]:
        saved["state"][index] = {"a": 1, "b": 2, "c": 3}
    with pytest.raises(StateError, match=r"state 0 lacks 'step'.*state 1 .*and 10 more"):
        optimizer.load_state_dict(saved)


def test_parameters_in_another_order_are_noticed_by_their_names():
    a, b = Parameter([1.0]), Parameter([2.0])
    saved = SGD([("a", a), ("b", b)]).state_dict()
    with pytest.raises(StateError, match="'b' where the optimizer has 'a'"):
        SGD([("a", a), ("b", b)]).load_state_dict(SGD([("b", b), ("a", a)]).state_dict())
    SGD([a, b]).load_state_dict(saved)


def test_state_of_another_optimizer_is_refused():
    ps = model()
    optimizer = SGD(ps, momentum=0.9)
    train(optimizer, ps, range(1))
    with pytest.raises(StateError, match="lacks 'amsgrad'"):
        Adam(ps).load_state_dict(optimizer.state_dict())


def test_the_state_is_for_looking_at():
    ps = model()
    optimizer = Adam(ps)
    train(optimizer, ps, range(1))
    with pytest.raises(TypeError):
        optimizer.state[ps[0]]["step"] = 5
