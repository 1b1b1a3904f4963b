"""Where a training step's time goes."""

import time

import numpy as np
import pytest

from minigrad import cli
from minigrad.data import TensorDataset
from minigrad.errors import ArgumentError
from minigrad.examples import train_mlp
from minigrad.examples._setup import Settings, Split
from minigrad.profiling import LOADING, OPTIMIZER, REST, profile


class Slow(TensorDataset):
    def batch(self, indices):
        time.sleep(0.002)
        return super().batch(indices)


def images(kind=TensorDataset, count=64):
    draw = np.random.default_rng(0)
    data = kind(draw.standard_normal((count, 1, 4, 4)).astype(np.float32), draw.integers(0, 10, count))
    return Split(data, data)


def test_the_parts_add_up_to_the_whole():
    started = time.perf_counter()
    found = profile(train_mlp.TRAINER, Settings(batch_size=16), images(Slow), 6)
    whole = time.perf_counter() - started
    parts = sum(row.forward + row.backward for row in found.rows.values())
    assert parts == pytest.approx(found.seconds, rel=1e-9)
    assert 0 < found.seconds + found.unwatched < whole
    assert found.rows[LOADING, ""].forward >= 6 * 0.002


def test_operations_are_named_and_counted():
    found = profile(train_mlp.TRAINER, Settings(norm="batch", batch_size=16), images(), 5)
    calls = {name: row.calls for name, row in found.rows.items()}
    assert calls["Linear", "Linear"] == 5 * 4
    assert calls["BatchNorm", "BatchNorm1d"] == calls["Sigmoid", "Sigmoid"] == 5 * 3
    assert calls["CrossEntropy", ""] == 5
    assert found.rows["BatchNorm", "BatchNorm1d"].backward > 0
    assert {(OPTIMIZER, ""), (LOADING, ""), (REST, "")} <= set(calls)
    assert ("BatchNorm", "BatchNorm1d") not in profile(
        train_mlp.TRAINER, Settings(norm="none", batch_size=16), images(), 1).rows


def test_the_table_shares_out_all_of_it():
    table = profile(train_mlp.TRAINER, Settings(batch_size=16), images(), 3).table()
    shares = [float(row[-1].removesuffix(" %")) for row in table.rows]
    assert sum(shares) == pytest.approx(100, abs=0.05 * len(shares) + 1e-9)


@pytest.mark.parametrize(("given", "steps"), [(Settings(workers=2), 3), (Settings(), 0)])
def test_what_cannot_be_measured_is_refused(given, steps):
    with pytest.raises(ArgumentError):
        profile(train_mlp.TRAINER, given, images(), steps)


def test_the_command(capsys):
    assert cli.main(["profile", "mlp", "--norm", "layer", "--limit", "240", "--steps", "2"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("2 steps of ")
    assert "LayerNorm" in said
    assert "optimizer" in said
    assert cli.main(["profile", "mlp", "--workers", "2", "--limit", "240"]) == 1
    assert "2 workers" in capsys.readouterr().err
    with pytest.raises(SystemExit) as exit:
        cli.main(["profile", "rnn"])
    assert exit.value.code == 2
