"""Going on: a run that was broken off, killed or damaged ends bit-equal to one that was not, or says why it cannot."""

import contextlib
import functools
import hashlib
import json
import operator
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path

import numpy as np
import pytest
from limits import files_end_at
from training import BATCH, EPOCHS, SAMPLES, outcome, run_or_resume, stopped_at, train

from minigrad.errors import DivergedError, StateError
from minigrad.io import read_checkpoint
from minigrad.run import Run

STEPS = EPOCHS * -(-SAMPLES // BATCH)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The outcome of the run that nothing has interrupted."""
    directory = tmp_path_factory.mktemp("whole") / "run"
    record, _ = run_or_resume(directory, checkpoint_every=None)
    assert record.steps == STEPS
    return outcome(directory)


@pytest.mark.parametrize("workers", [0, 1, 4])
@pytest.mark.parametrize("checkpoint_every", [None, 1, 7])
def test_neither_threads_nor_checkpoints_change_a_byte(tmp_path, whole, workers, checkpoint_every):
    run_or_resume(tmp_path / "run", workers=workers, checkpoint_every=checkpoint_every)
    assert outcome(tmp_path / "run") == whole


@pytest.mark.parametrize("step", [0, 1, 8, 9, 10, 45, STEPS - 1])
@pytest.mark.parametrize("checkpoint_every", [None, 1, 4])
def test_a_run_that_was_broken_off_ends_bit_equal(tmp_path, whole, step, checkpoint_every):
    with stopped_at(step) as each:
        run_or_resume(tmp_path / "run", checkpoint_every=checkpoint_every, each=each)
    run_or_resume(tmp_path / "run", checkpoint_every=checkpoint_every, workers=2)
    assert outcome(tmp_path / "run") == whole


def test_a_run_that_is_over_has_nothing_left_to_do(tmp_path, whole):
    run_or_resume(tmp_path / "run")
    taken = []
    run_or_resume(tmp_path / "run", each=taken.append)
    assert taken == []
    assert outcome(tmp_path / "run") == whole


def test_a_run_can_be_made_longer(tmp_path, whole):
    run_or_resume(tmp_path / "run", epochs=5)
    run_or_resume(tmp_path / "run")
    # The shorter run measured at its own end as well, which is the end of an epoch and measured anyway.
    assert outcome(tmp_path / "run") == whole


def test_only_the_newest_two_checkpoints_and_the_best_are_kept(tmp_path):
    record, _ = run_or_resume(tmp_path / "run")
    kept = sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())
    wanted = {STEPS - 1, STEPS, record.best_step}
    assert kept == [f"step-{step:08d}" for step in sorted(wanted)]


def test_early_stopping_stops_and_stays_stopped(tmp_path):
    record, _ = run_or_resume(tmp_path / "run", epochs=200, patience=2)
    assert record.stopped_early
    assert record.epochs == record.best_step // 9 + 2
    before = outcome(tmp_path / "run")
    run_or_resume(tmp_path / "run", epochs=200, patience=2)
    assert outcome(tmp_path / "run") == before


# ------------------------------------------------------------------ killed


def child(directory):
    """Go on with the run until it is over or killed."""
    run_or_resume(directory)
    os._exit(0)


def kill_at_random(directory, draw):
    """Start a process that goes on with the run and kill it; returns the hidden files it left, None if it was over."""
    pid = os.fork()
    if pid == 0:
        try:
            child(directory)
        except BaseException:  # noqa: BLE001 - said here, as nobody else is told
            traceback.print_exc()
        os._exit(1)
    time.sleep(draw.uniform(0.01, 0.16))
    if draw.random() < 0.95:  # while a checkpoint is written: once its hidden folder is seen, and a moment later
        give_up = time.monotonic() + 0.5
        while not list(directory.glob(f"checkpoints/.part-*-{pid}")) and time.monotonic() < give_up:
            pass
        time.sleep(draw.uniform(0, 0.0004))
    os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    assert status == signal.SIGKILL or status == 0, status
    return None if status == 0 else [path.name for path in directory.glob(f"checkpoints/.*-{pid}")]


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_200_times_it_always_ends_bit_equal(tmp_path, whole):
    """SIGKILL at random moments, most of them while a checkpoint is written."""
    draw, kills, runs, writing = random.Random(0), 0, 0, 0
    while kills < 200:
        directory = tmp_path / f"run-{runs}"
        for _ in range(draw.randint(5, 15)):
            left = kill_at_random(directory, draw)
            if left is None:
                break
            kills += 1
            writing += bool(left)
            if (directory / "checkpoints").is_dir():
                for path in (directory / "checkpoints").glob("step-*"):
                    read_checkpoint(path)  # whatever has its final name is whole
        run_or_resume(directory, checkpoint_every=None)
        assert outcome(directory) == whole, f"run {runs}"
        shutil.rmtree(directory)
        runs += 1
    assert writing > 110, f"of {kills} kills in {runs} runs, too few met a checkpoint that was being written"


# ------------------------------------------------------------------ damaged


@pytest.fixture
def broken_off(tmp_path):
    """A run with several checkpoints, broken off at step 30."""
    with stopped_at(30) as each:
        run_or_resume(tmp_path / "run", checkpoint_every=5, each=each)
    return tmp_path / "run"


def newest(directory):
    return max((directory / "checkpoints").glob("step-*"))


def content(directory):
    return {path.relative_to(directory): path.read_bytes() for path in sorted(directory.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("file", ["state.json", "model.safetensors", "optimizer.safetensors", "ema.safetensors"])
@pytest.mark.parametrize("damage", ["truncated", "flipped", "gone"])
def test_a_damaged_checkpoint_is_one_error_that_names_the_last_good_one(broken_off, whole, file, damage):
    path = newest(broken_off) / file
    data = bytearray(path.read_bytes())
    if damage == "truncated":
        path.write_bytes(data[: len(data) // 2])
    elif damage == "flipped":
        data[len(data) // 2] ^= 16
        path.write_bytes(data)
    else:
        path.unlink()
    (broken_off / "result.json").write_text("{}")
    before = content(broken_off)
    with pytest.raises(StateError, match="checkpoint step-00000030") as caught, \
            Run.open(broken_off, changes={"seed": 2}) as run:
        train(run)
    assert content(broken_off) == before
    good = broken_off / "checkpoints" / "step-00000027"
    assert str(good) in str(caught.value)
    with Run.open(good) as run:
        train(run)
    assert outcome(broken_off) == whole
    assert (broken_off / "checkpoints" / "aside-step-00000030").is_dir()


def test_without_a_good_checkpoint_that_is_said(broken_off):
    for path in (broken_off / "checkpoints").iterdir():
        (path / "state.json").write_text("{}")
    with pytest.raises(StateError, match="no other checkpoint that is intact"):
        run_or_resume(broken_off)


def test_a_checkpoint_of_another_model_changes_nothing(broken_off):
    before = content(broken_off)
    from minigrad import layers

    with Run.open(broken_off) as run, pytest.raises(StateError, match="the parts"):
        run.restore({"model": layers.Linear(2, 2)})
    assert content(broken_off) == before


def places(tree, path=()):
    """The path to everything in nested dicts and lists."""
    pairs = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, held in pairs:
        yield (*path, key)
        yield from places(held, (*path, key))


def forged(content, path, value):
    """What state.json says if one place in its parts has another value, its checksum being right."""
    content = json.loads(json.dumps(content))
    *way, last = path
    functools.reduce(operator.getitem, way, content["parts"])[last] = value
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    return json.dumps({"content": content, "sha256": hashlib.sha256(text.encode()).hexdigest()}, ensure_ascii=False)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of numbers too large for training, which are not forbidden
@pytest.mark.parametrize("value", [None, "../../x", -1, 1.5, [], {}, 10**30, {"$float": "nan"}], ids=str)
def test_wherever_a_checkpoint_is_forged_the_run_goes_on_or_there_is_one_error(broken_off, value):
    file, errors = newest(broken_off) / "state.json", 0
    content = json.loads(file.read_text(encoding="utf-8"))["content"]
    metrics = (broken_off / "metrics.jsonl").read_bytes()
    kept = {path: path.read_bytes() for path in broken_off.glob("*.json*")}
    for path in places(content["parts"]):
        if path[0] == "schedule":  # the tests' own, which looks at nothing
            continue
        file.write_text(forged(content, path, value), encoding="utf-8")
        with Run.open(broken_off) as run:
            error = None
            try:
                train(run, epochs=0)
            except StateError as caught:
                error = caught
        if error is not None:
            errors += 1
            assert re.search(r"checkpoint step-00000030|Run\.restore: (metrics|timing)\.jsonl", str(error))
            assert (broken_off / "metrics.jsonl").read_bytes() == metrics
        for each, data in kept.items():
            each.write_bytes(data)
    assert errors > 50


def test_files_that_are_too_short_leave_the_others_as_they_are(broken_off):
    with Run.open(broken_off) as run:
        run.log("small", 31, 4, loss=0.0)
    file = broken_off / "timing.jsonl"
    file.write_bytes(file.read_bytes()[:100])
    before = content(broken_off)
    with pytest.raises(StateError, match=r"timing\.jsonl: got 100 bytes"):
        run_or_resume(broken_off)
    assert content(broken_off) == before


def test_metrics_that_were_cut_are_noticed(broken_off):
    file = broken_off / "metrics.jsonl"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(StateError, match=r"metrics\.jsonl: got 100 bytes"):
        run_or_resume(broken_off)


def test_two_processes_do_not_write_one_run(broken_off):
    with Run.open(broken_off), pytest.raises(StateError, match="another process"):
        Run.open(broken_off)


def test_a_folder_that_is_no_run_is_said_to_be_none(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no config\.json"):
        Run.open(tmp_path)
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(StateError, match="settings"):
        Run.open(tmp_path)


# ------------------------------------------------------------------ no room, no permission


def test_when_files_cannot_grow_the_last_checkpoint_stays(broken_off, whole):
    """A limit on the length of files: for one file after the other, the disk is full."""
    before = content(newest(broken_off))
    with pytest.raises(OSError, match=r"Run\.save: cannot write checkpoint|cannot write") as caught, files_end_at(200):
        run_or_resume(broken_off)
    assert "File too large" in str(caught.value)
    assert content(newest(broken_off)) == before
    assert not list((broken_off / "checkpoints").glob(".*"))
    run_or_resume(broken_off)
    assert outcome(broken_off) == whole


def test_on_a_full_disk_the_last_checkpoint_stays(tmp_path, whole):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(disk)], capture_output=True,
                      check=False).returncode:
        pytest.skip("needs the right to mount a file system")
    try:
        with stopped_at(30) as each:
            run_or_resume(disk / "run", each=each)
        before, filler = content(newest(disk / "run")), disk / "filler"
        with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(b"x" * 4096)
        with pytest.raises(OSError, match="No space left") as caught:
            run_or_resume(disk / "run")
        assert "step 30 is there" in str(caught.value) or "metrics" in str(caught.value)
        assert content(newest(disk / "run")) == before
        filler.unlink()
        run_or_resume(disk / "run")
        assert outcome(disk / "run") == whole
    finally:
        subprocess.run(["umount", str(disk)], check=True)


READ_ONLY = """
import os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from training import run_or_resume
directory = Path(sys.argv[1])
if os.geteuid() == 0:  # for root nothing is read-only
    os.setgid(65534); os.setuid(65534)
try:
    run_or_resume(directory)
except OSError as error:
    print(error)
"""


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_in_a_read_only_folder_there_is_one_error_and_nothing_is_changed(broken_off):
    place = broken_off.parent
    before = content(broken_off)
    for parent in [place, *place.parents]:
        if parent.owner() == Path("/tmp").owner() and parent.stat().st_mode & 0o005 != 0o005:
            parent.chmod(0o755)
    for path in [broken_off, *broken_off.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    for directory in (broken_off, broken_off / "new"):
        done = subprocess.run([sys.executable, "-c", READ_ONLY, str(directory), str(Path(__file__).parents[1])],
                              capture_output=True, text=True, check=False, cwd="/")  # not where sources lie
        assert done.returncode == 0, done.stderr
        assert "cannot" in done.stdout
        assert "ermission denied" in done.stdout
        assert len(done.stdout.splitlines()) == 1
    for path in [broken_off, *broken_off.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    assert content(broken_off) == before


# ------------------------------------------------------------------ diverged


def test_what_diverged_first_is_named_and_no_weight_is_spoiled(tmp_path, monkeypatch):
    from minigrad import layers
    from minigrad.ops import elementwise

    class Log(layers.Module):
        def forward(self, x):
            return elementwise.log(x * 0 - (x * 0).sum() + 0)

    original = layers.ReLU
    made = []

    def relu():
        made.append(1)
        return Log() if len(made) == 1 else original()

    monkeypatch.setattr(layers, "ReLU", relu)
    with pytest.raises(DivergedError, match=r"step 1: got a loss of nan.*First, forward of Log in layer 3 \(Log\)"), \
            np.errstate(all="ignore"):
        run_or_resume(tmp_path / "run")
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_the_report_of_a_state_is_plain_json(broken_off):
    said = json.loads((newest(broken_off) / "state.json").read_text())
    assert said["content"]["parts"]["record"]["steps"] == 30
    assert said["content"]["parts"]["loader"]["epoch"] == 3
    assert said["content"]["parts"]["loader"]["position"] == 3
