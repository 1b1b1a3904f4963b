"""Run directories: what is written is read back, nothing is overwritten, and errors say what to do."""

import json
import math
import os
import platform
import re
from pathlib import Path

import numpy as np
import pytest

from minigrad import kernels
from minigrad.modes import KERNEL_TIERS
from minigrad.run import Run, describe_environment, read_rows


def strict(text: str) -> object:
    """Parse JSON as the standard has it: NaN and Infinity are no literals."""

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    return json.loads(text, parse_constant=refuse)


def test_metrics_round_trip_with_values_that_json_lacks(tmp_path: Path) -> None:
    with Run(tmp_path / "run") as run:
        run.log("none", 1, epoch=0, loss=math.nan, best=-math.inf, top=math.inf, exact=0.1 + 0.2)
        run.log("ünïcode <b>\n", np.int64(2), epoch=np.int32(1), loss=np.float32(0.1), hits=np.array(7))
    lines = (tmp_path / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 2
    assert all(isinstance(strict(line), dict) for line in lines)
    first, second = run.metrics()
    assert list(first) == ["series", "step", "epoch", "loss", "best", "top", "exact"]
    assert math.isnan(first["loss"])
    assert (first["best"], first["top"], first["exact"]) == (-math.inf, math.inf, 0.1 + 0.2)
    assert second == {
        "series": "ünïcode <b>\n",
        "step": 2,
        "epoch": 1,
        "loss": float(np.float32(0.1)),
        "hits": 7,
    }


def test_a_series_called_nan_stays_a_name(tmp_path: Path) -> None:
    with Run(tmp_path / "run") as run:
        run.log("NaN", 1, epoch=1)
    assert run.metrics() == [{"series": "NaN", "step": 1, "epoch": 1}]


def test_lines_are_on_disk_before_the_run_is_closed(tmp_path: Path) -> None:
    with Run(tmp_path / "run") as run:
        for step in range(3):
            run.log("a", step, epoch=1, loss=step)
            assert [row["step"] for row in read_rows(run.directory / "metrics.jsonl")] == [*range(step + 1)]


def test_curve_joins_metrics_and_timing_by_step(tmp_path: Path) -> None:
    with Run(tmp_path / "run") as run:
        for step in (10, 20, 30):
            run.log("a", step, epoch=1, accuracy=step / 100)
            run.log("b", step, epoch=1, accuracy=0.0)
        run.log_timing("a", 10, epoch=1, seconds=1.5)
        run.log_timing("a", 30, epoch=1, seconds=4.5)
    x, y = run.curve("a", "accuracy")
    np.testing.assert_array_equal((x, y), [[10, 20, 30], [0.1, 0.2, 0.3]])
    x, y = run.curve("a", "accuracy", x="seconds")
    np.testing.assert_array_equal((x, y), [[1.5, 4.5], [0.1, 0.3]])
    assert "seconds" not in (tmp_path / "run" / "metrics.jsonl").read_text(encoding="utf-8")
    with pytest.raises(LookupError, match=r"series 'b' has both 'loss' and 'accuracy'"):
        run.curve("b", "accuracy", x="loss")


@pytest.mark.parametrize("value", ["0.5", None, [1.0], np.zeros(2), 1j])
def test_a_measurement_that_is_no_number_is_refused_by_name(tmp_path: Path, value: object) -> None:
    with Run(tmp_path / "run") as run, pytest.raises(TypeError, match=r"series 'a', step 3: loss.*wanted one"):
        run.log("a", 3, epoch=1, loss=value)
    assert run.metrics() == []


@pytest.mark.parametrize("step", [1.0, True, "1"])
def test_a_step_that_is_no_integer_is_refused(tmp_path: Path, step: object) -> None:
    with Run(tmp_path / "run") as run, pytest.raises(TypeError, match="wanted an integer"):
        run.log("a", step, epoch=1)


def test_logging_after_the_end_is_refused_and_closing_twice_is_not(tmp_path: Path) -> None:
    with Run(tmp_path / "run") as run:
        pass
    run.close()
    with pytest.raises(ValueError, match="closed"):
        run.log("a", 1, epoch=1)


def test_files_are_closed_when_training_fails(tmp_path: Path) -> None:
    run = Run(tmp_path / "run")

    def train() -> None:
        with run:
            run.log("a", 1, epoch=1)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train()
    assert len(run.metrics()) == 1
    with pytest.raises(ValueError, match="closed"):
        run.log("a", 2, epoch=1)


def test_a_line_cut_short_is_left_out_and_a_broken_one_reported(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    good = '{"series": "a", "step": 1, "epoch": 1}\n'
    file.write_text(good + '{"series": "a", "st', encoding="utf-8")
    assert len(read_rows(file)) == 1
    file.write_text(good + '{"series": "a", "st\n' + good, encoding="utf-8")
    with pytest.raises(ValueError, match=r"metrics\.jsonl, line 2: not JSON"):
        read_rows(file)
    file.write_text(good + '{"loss": 1}\n', encoding="utf-8")
    with pytest.raises(ValueError, match=r"line 2.*'series' and 'step'"):
        read_rows(file)


def test_default_directories_are_dated_named_and_never_shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("time.strftime", lambda form: "20240229-235959")
    names = []
    for _ in range(3):
        with Run(title="MLP, Größe 100/../x") as run:
            names.append(run.directory)
    stem = "20240229-235959-mlp-größe-100-x"
    assert names == [Path("runs") / (stem + end) for end in ("", "-2", "-3")]
    assert all((name / "metrics.jsonl").is_file() for name in names)


def test_the_date_in_the_name_is_that_of_today(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with Run(title="?!") as run:
        assert re.fullmatch(r"20\d{6}-\d{6}-run", run.directory.name)


def test_an_existing_run_is_not_touched(tmp_path: Path) -> None:
    with Run(tmp_path / "run", {"lr": 1}) as run:
        run.log("a", 1, epoch=1)
    before = {path.name: path.read_bytes() for path in run.directory.iterdir()}
    with pytest.raises(FileExistsError, match="wanted a new or an empty directory"):
        Run(tmp_path / "run", {"lr": 2})
    assert {path.name: path.read_bytes() for path in run.directory.iterdir()} == before


def test_an_empty_directory_is_taken(tmp_path: Path) -> None:
    with Run(tmp_path) as run:
        assert run.directory == tmp_path
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "config.json",
        "environment.json",
        "metrics.jsonl",
        "timing.jsonl",
    ]


def test_a_directory_that_cannot_be_made_says_which_and_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocker = tmp_path / "runs"
    blocker.write_text("a file", encoding="utf-8")
    with pytest.raises(OSError, match=r"cannot create run directory '.*deep'.*choose another directory"):
        Run(blocker / "deep")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OSError, match=r"'runs' is a file|cannot create run directory"):
        Run(title="x")
    assert blocker.read_text(encoding="utf-8") == "a file"


def test_settings_are_written_as_plain_json(tmp_path: Path) -> None:
    config = {
        "seed": 3,
        "lr": np.float64(0.1),
        "hidden": (100, 50),
        "optimizer": {"name": "sgd", "momentum": None, "limit": math.inf},
        "data": Path.home() / "data",
        "title": "größe <b>",
    }
    with Run(tmp_path / "run", config) as run:
        pass
    written = strict((run.directory / "config.json").read_text(encoding="utf-8"))
    assert written == run.config
    assert written == {
        "seed": 3,
        "lr": 0.1,
        "hidden": [100, 50],
        "optimizer": {"name": "sgd", "momentum": None, "limit": "Infinity"},
        "data": "~" + os.sep + "data",
        "title": "größe <b>",
    }
    assert run.environment["seed"] == 3


def test_a_setting_that_json_cannot_hold_is_named_and_leaves_no_directory(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"config\.model\.layers\[1\] is object"):
        Run(tmp_path / "run", {"model": {"layers": [1, object()]}})
    assert not (tmp_path / "run").exists()


def test_the_environment_names_versions_but_neither_machine_nor_paths(tmp_path: Path) -> None:
    with Run(tmp_path / "run") as run:
        text = (run.directory / "environment.json").read_text(encoding="utf-8")
    found = strict(text)
    assert found["python"] == platform.python_version()
    assert found["numpy"] == np.__version__
    assert found["minigrad"]
    assert 1 <= found["cores"] <= os.cpu_count()
    assert found == describe_environment()
    assert found["blas"].startswith(np.show_config(mode="dicts")["Build Dependencies"]["blas"]["name"])
    assert found["kernels"].split(";")[0] in KERNEL_TIERS
    for private in (platform.node(), str(Path.home()), str(tmp_path)):
        assert len(private) < 3 or private not in text
    assert not re.search(r'"[^"]*/\w+/[^"]*"', text)


def test_what_changes_figures_is_recorded_and_a_change_on_the_way_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                                      ) -> None:
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    with kernels.disabled(), Run(tmp_path / "run"):
        pass
    file = tmp_path / "run" / "environment.json"
    began = strict(file.read_text(encoding="utf-8"))
    assert began["kernels"] == "text"
    assert began["variables"]["OPENBLAS_CORETYPE"] == "Haswell"
    with kernels.disabled(), Run.open(tmp_path / "run") as run:
        run.restore({})
    assert strict(file.read_text(encoding="utf-8")) == began
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    with kernels.tier("numpy"), Run.open(tmp_path / "run") as run:
        run.restore({})
    now = {"kernels": "numpy", "variables": {**began["variables"], "OMP_NUM_THREADS": "2"}}
    assert strict(file.read_text(encoding="utf-8")) == {**began, "resumed_with": now}
    file.write_text("[", encoding="utf-8")
    with Run.open(tmp_path / "run") as run:
        run.restore({})
    assert strict(file.read_text(encoding="utf-8")) == describe_environment()
