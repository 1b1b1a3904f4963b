"""A run directory: settings, environment, metrics and checkpoints of one training run, in plain files."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from minigrad.errors import ArgumentError, StateError
from minigrad.io.files import explained, replace_file, sync_directory, unfinished
from minigrad.run.checkpoints import FOLDER, Checkpoints
from minigrad.run.environment import describe_environment
from minigrad.run.journal import Journal
from minigrad.run.rows import Number, dump, integer, number, plain, read_rows

__all__ = ["Run", "make_directory", "read_config"]


class Run:
    """A directory that holds what one training run was asked to do, what it measured, and where it can go on.

    It holds ``config.json`` (the settings), ``environment.json`` (see `describe_environment`),
    ``metrics.jsonl`` and ``timing.jsonl``, ``checkpoints/`` and, once it is over, ``result.json``. Metrics are
    the truth that reports and summaries are made from: one JSON object per line. Readings of the clock go to a
    file of their own, so that two runs with one seed on one machine write the same metrics, byte for byte.

    Parameters
    ----------
    directory : str or path-like, optional
        The directory to make. It may exist only if it is empty. By default ``runs/<date>-<time>-<title>``,
        with a number appended where that exists already.
    config : mapping, optional
        Settings: nested mappings and sequences of str, bool, int, float, None, paths and NumPy numbers.
        ``config["seed"]``, if there is one, is repeated in the environment.
    title : str
        What the default directory is named after.
    tensorboard : bool
        Write what is logged to event files in ``tensorboard/`` too; needs the package tensorboardX.

    Attributes
    ----------
    directory : pathlib.Path
        Where the files are.
    config, environment : dict
        The settings, and the environment of this process.

    Raises
    ------
    FileExistsError
        The directory exists and is not empty; nothing in it was changed.
    OSError
        The directory or a file in it cannot be written.
    TypeError
        A setting cannot be written as JSON; the message names it.
    ArgumentError
        Event files are asked for and tensorboardX is not installed.

    Examples
    --------
    >>> import tempfile
    >>> parent = tempfile.TemporaryDirectory()
    >>> with Run(Path(parent.name) / "first", {"lr": 0.1, "seed": 0}) as run:
    ...     run.log("batch", 100, epoch=1, loss=0.5)
    ...     run.log("batch", 200, epoch=2, loss=float("inf"))
    >>> run.metrics()[1]
    {'series': 'batch', 'step': 200, 'epoch': 2, 'loss': inf}
    >>> parent.cleanup()
    """

    def __init__(
        self,
        directory: str | os.PathLike[str] | None = None,
        config: Mapping[str, Any] | None = None,
        *,
        title: str = "run",
        tensorboard: bool = False,
    ) -> None:
        # Settings are checked first: a wrong one must not leave an empty directory behind.
        settings = plain(dict(config or {}), "config")
        environment = describe_environment(seed=settings.get("seed"))
        events = _events(tensorboard)
        self._set_up(make_directory(directory, title), settings, environment)
        _write(self.directory / "config.json", self.config)  # first: with it, there is a run to go on with
        _write(self.directory / "environment.json", self.environment)
        self._open(events)

    def _set_up(self, directory: Path, config: dict[str, Any], environment: dict[str, Any]) -> None:
        self.directory, self.config, self.environment = directory, config, environment
        self._checkpoints = Checkpoints(directory / FOLDER)
        self._from: str | None = None  # of an opened run: the checkpoint to go on from, and the settings that change
        self._changes: dict[str, Any] | None = None
        self._journals: dict[str, Journal] = {}
        self._events: Any = None

    def _open(self, events: Any) -> None:
        for name in ("metrics.jsonl", "timing.jsonl"):
            self._journals[name] = Journal(self.directory / name)
        sync_directory(self.directory)
        self._events = events and events(self.directory / "tensorboard")

    @classmethod
    def open(cls, directory: str | os.PathLike[str], *, changes: Mapping[str, Any] | None = None) -> Run:
        """Open the directory of an earlier run, to go on with it; `restore` then loads its newest checkpoint.

        Parameters
        ----------
        directory : str or path-like
            The run's, or that of one of its checkpoints, to go on from that one.
        changes : mapping, optional
            Settings that are no longer what they were. Nothing is written before `restore` has succeeded.

        Raises
        ------
        FileNotFoundError
            There is no run.
        StateError
            Its settings cannot be read, or another process is writing into it.
        OSError
            A file in it cannot be written.
        """
        path = Path(directory)
        chosen = path.name if path.parent.name == FOLDER else None
        path = path if chosen is None else path.parent.parent
        run = cls.__new__(cls)
        config = read_config(path)
        environment = describe_environment(seed=config.get("seed"))
        run._set_up(path, config, environment)
        run._from, run._changes = chosen, plain(dict(changes or {}), "config")
        run.config.update(run._changes)
        run._open(_events(bool(config.get("tensorboard"))))
        return run

    def _go_on(self) -> None:
        """Write down that the run goes on, and what is no longer as it was when it began."""
        (self.directory / "result.json").unlink(missing_ok=True)
        if self._changes:
            _write(self.directory / "config.json", self.config)
        file = self.directory / "environment.json"
        try:
            began = dict(json.loads(file.read_text(encoding="utf-8")))
        except (FileNotFoundError, ValueError, TypeError):
            began = {}
        other = {name: each for name, each in self.environment.items() if began.get(name) != each}
        if not began:
            _write(file, self.environment)
        elif other:
            _write(file, began | {"resumed_with": began.get("resumed_with", {}) | other})

    def __enter__(self) -> Run:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the files; reading back stays possible, logging does not. Closing twice does nothing."""
        for journal in self._journals.values():
            journal.close()
        self._journals.clear()
        if self._events is not None:
            self._events.close()
            self._events = None

    # ---------------------------------------------------------------- checkpoints

    def save(self, step: int, objects: Mapping[str, Any], *, best: int | None = None) -> Path:
        """Write a checkpoint: the state of every object, and how long the run's files are.

        Older checkpoints are removed but for the one before and the best.

        Parameters
        ----------
        step : int
            Optimizer steps taken so far.
        objects : mapping of str to object
            Anything with ``state_dict()`` and ``load_state_dict()``: models, optimizers, schedules, loss scalers,
            loaders; or with ``get_state()`` and ``set_state()``: generators.
        best : int, optional
            The step of a checkpoint that is to be kept.

        Returns
        -------
        pathlib.Path
            The checkpoint's folder.

        Raises
        ------
        OSError
            It cannot be written; the message names the newest one that is there.
        StateError
            A state holds what is no data.
        """
        # Lines that a checkpoint counts must not be lost if the power is.
        for journal in self._journals.values():
            journal.sync()
        lengths = {file.name: file.stat().st_size for file in sorted(self.directory.glob("*.jsonl"))}
        return self._checkpoints.save(step, objects, {"lengths": lengths}, best)

    def restore(self, objects: Mapping[str, Any]) -> int | None:
        """Load the newest checkpoint into the objects, and shorten the run's files to what it had logged then.

        Without a checkpoint the files are emptied: the run begins again.

        Parameters
        ----------
        objects : mapping of str to object
            As given to `save`.

        Returns
        -------
        int or None
            The checkpoint's step; None if there is none.

        Raises
        ------
        StateError
            The checkpoint is damaged or does not fit; the message names one before it that is intact, if there is
            one. No file was changed.
        """
        found = self._checkpoints.load(objects, self._from)
        step, facts = found or (None, {"lengths": {}})
        lengths = {file: facts["lengths"].get(file.name, 0) for file in sorted(self.directory.glob("*.jsonl"))}
        for file, wanted in lengths.items():  # all are checked before one is changed
            have = file.stat().st_size
            if have < wanted:
                raise StateError(f"Run.restore: {file.name}", got=f"{have:,} bytes",
                                 wanted=f"the {wanted:,} that the checkpoint of step {step} counts")
        for file, wanted in lengths.items():
            os.truncate(file, wanted)
        if step is not None:
            self._checkpoints.forget_after(step)
        if self._changes is not None:
            self._go_on()
        return step

    def checkpoint(self, step: int) -> Path:
        """The folder of the checkpoint of a step, whether it exists or not."""
        return self._checkpoints.path(step)

    def finish(self, status: str, **facts: Any) -> None:
        """Write ``result.json``: how the run ended.

        Parameters
        ----------
        status : str
            ``"done"``, ``"stopped early"`` or ``"diverged"``.
        **facts : str, number or None
            What came out.
        """
        _write(self.directory / "result.json", plain({"status": status, **facts}, "result"))

    # ---------------------------------------------------------------- metrics

    def log(self, series: str, step: int, epoch: int, **numbers: Number) -> None:
        """Append one line to ``metrics.jsonl``; it is on disk (flushed) when this returns.

        Parameters
        ----------
        series : str
            Which of the run's curves this belongs to, for example ``"batch"``.
        step : int
            Optimizer steps taken so far.
        epoch : int
            Passes over the data, counted from 1; 0 before the first.
        **numbers : int, float or NumPy scalar
            The measurements. NaN and ±inf are written as the JSON strings ``"NaN"``, ``"Infinity"``,
            ``"-Infinity"`` and read back as floats.

        Raises
        ------
        ValueError
            The run is closed.
        TypeError
            A measurement is not one number, or step or epoch not an integer.
        """
        self._append("metrics.jsonl", series, step, epoch, numbers)

    def log_timing(self, series: str, step: int, epoch: int, **seconds: Number) -> None:
        """Append one line to ``timing.jsonl``: as `log`, for what differs from one run to the next.

        Parameters
        ----------
        series, step, epoch
            As in `log`.
        **seconds : int, float or NumPy scalar
            Readings of the clock, in seconds.

        Raises
        ------
        ValueError, TypeError
            As in `log`.
        """
        self._append("timing.jsonl", series, step, epoch, seconds)

    def metrics(self) -> list[dict[str, Any]]:
        """Read ``metrics.jsonl`` back.

        Returns
        -------
        list of dict
            One per line, in the order of writing: ``series`` (str), ``step``, ``epoch`` (int) and the
            numbers.
        """
        return read_rows(self.directory / "metrics.jsonl")

    def timing(self) -> list[dict[str, Any]]:
        """Read ``timing.jsonl`` back.

        Returns
        -------
        list of dict
            As from `metrics`.
        """
        return read_rows(self.directory / "timing.jsonl")

    def curve(self, series: str, y: str, x: str = "step") -> tuple[np.ndarray, np.ndarray]:
        """Give one curve of the run, ready to be drawn.

        Parameters
        ----------
        series : str
            The name given to `log`.
        y, x : str
            Names of numbers. Lines of ``metrics.jsonl`` and ``timing.jsonl`` that agree in series and step
            count as one, so accuracy can be had against seconds.

        Returns
        -------
        x, y : ndarray, shape (n,), float64
            The steps at which both were logged, in order of step.

        Raises
        ------
        LookupError
            No line of the series has both numbers.
        """
        merged: dict[int, dict[str, Any]] = {}
        for row in (*self.metrics(), *self.timing()):
            if row["series"] == series:
                merged.setdefault(row["step"], {}).update(row)
        points = [(row[x], row[y]) for _, row in sorted(merged.items()) if x in row and y in row]
        if not points:
            raise LookupError(
                f"Run.curve: no line of series {series!r} has both {x!r} and {y!r} in {self.directory.name}; "
                f"logged were {sorted({key for row in merged.values() for key in row})}"
            )
        table = np.asarray(points, dtype=np.float64)
        return table[:, 0], table[:, 1]

    def _append(self, name: str, series: str, step: int, epoch: int, numbers: Mapping[str, Number]) -> None:
        """Write one line to the file `name`."""
        if name not in self._journals:
            raise ValueError(f"Run: {self.directory.name} is closed; log inside its 'with' block")
        where = f"Run, series {series!r}, step {step}"
        row: dict[str, Any] = {"series": str(series)}
        row["step"] = integer(step, f"{where}: step")
        row["epoch"] = integer(epoch, f"{where}: epoch")
        row.update((key, number(value, f"{where}: {key}")) for key, value in numbers.items())
        self._journals[name].append(dump(row))
        if self._events is not None:
            self._events.add(str(series), int(step), numbers)


def read_config(directory: Path) -> dict[str, Any]:
    """The settings of a run.

    Raises
    ------
    FileNotFoundError
        There is no ``config.json``, so no run.
    StateError
        It cannot be read.
    """
    file = directory / "config.json"
    if not file.is_file():
        raise FileNotFoundError(f"Run: {str(directory)!r} holds no config.json, so no run; wanted a run directory")
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise StateError(f"Run: {file}", got=f"no JSON ({error})", wanted="a run's settings") from error
    if not isinstance(config, dict):
        raise StateError(f"Run: {file}", got=f"a {type(config).__name__}", wanted="a run's settings")
    return config


def _events(wanted: bool) -> Any:
    """What makes event files, or None; asked before a directory is made."""
    if not wanted:
        return None
    try:
        from minigrad.run.tensorboard import EventFiles
    except ImportError as error:
        raise ArgumentError("Run", got="tensorboard=True without the package tensorboardX", wanted="it installed",
                            hint="pip install 'minigrad-norm[tensorboard]'") from error
    return EventFiles


def _write(path: Path, value: Any) -> None:
    replace_file(path, (dump(value, indent=2) + "\n").encode())


def make_directory(directory: str | os.PathLike[str] | None, title: str) -> Path:
    """Make a new directory, or take an empty one; by default ``runs/<date>-<time>-<title>``.

    Raises
    ------
    FileExistsError
        It exists and is not empty.
    OSError
        It cannot be made.
    """
    return _make_dated(title) if directory is None else _make(Path(directory))


def _make(directory: Path) -> Path:
    """Make a directory, or take an empty one."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        # A file that was being written when an earlier process was killed is nothing that could be lost.
        occupied = next((path for path in directory.iterdir() if not unfinished(path)), None)
    except OSError as error:
        raise explained(error, f"Run: cannot create run directory {str(directory)!r}") from error
    if occupied is not None:
        raise FileExistsError(
            f"Run: {str(directory)!r} exists and holds {occupied.name!r}; "
            "wanted a new or an empty directory, because a run never overwrites another"
        )
    return directory


def _make_dated(title: str) -> Path:
    """Make ``runs/<date>-<time>-<title>``, numbered where it exists; making is what claims the name."""
    slug = re.sub(r"\W+", "-", title.lower()).strip("-_")[:60] or "run"
    base = Path("runs") / f"{time.strftime('%Y%m%d-%H%M%S')}-{slug}"
    candidate, attempt = base, 1
    while True:
        try:
            candidate.mkdir(parents=True)
            return candidate
        except FileExistsError:
            if not base.parent.is_dir():  # a file called runs: no number would help
                raise FileExistsError(f"Run: {str(base.parent)!r} is a file; wanted a directory for runs") from None
            attempt += 1
            candidate = base.with_name(f"{base.name}-{attempt}")
        except OSError as error:
            raise explained(error, f"Run: cannot create run directory {str(candidate)!r}") from error
