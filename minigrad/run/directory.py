"""A run directory: the settings, the environment and the metrics of one training run, in plain files."""

from __future__ import annotations

import importlib.metadata
import json
import math
import os
import platform
import re
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePath
from types import TracebackType
from typing import Any, TypeAlias

import numpy as np

Number: TypeAlias = int | float | np.generic

_NON_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


class Run:
    """A fresh directory that holds what one training run was asked to do and what it measured.

    It holds ``config.json`` (the settings), ``environment.json`` (see `describe_environment`),
    ``metrics.jsonl`` and ``timing.jsonl``. Metrics are the truth that reports and summaries are made from:
    one JSON object per line. Readings of the clock go to a file of their own, so that two runs with one seed
    on one machine write the same metrics, byte for byte.

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

    Attributes
    ----------
    directory : pathlib.Path
        Where the files are.
    config, environment : dict
        What was written to the two files.

    Raises
    ------
    FileExistsError
        The directory exists and is not empty; nothing in it was changed.
    OSError
        The directory or a file in it cannot be written.
    TypeError
        A setting cannot be written as JSON; the message names it.

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
    ) -> None:
        # Settings are checked first: a wrong one must not leave an empty directory behind.
        self.config: dict[str, Any] = _plain(dict(config or {}), "config")
        self.environment = describe_environment(seed=self.config.get("seed"))
        self.directory = _make_dated(title) if directory is None else _make(Path(directory))
        self._files: dict[str, Any] = {}
        write_text(self.directory / "config.json", _dump(self.config, indent=2) + "\n")
        write_text(self.directory / "environment.json", _dump(self.environment, indent=2) + "\n")
        for name in ("metrics.jsonl", "timing.jsonl"):
            self._files[name] = (self.directory / name).open("a", encoding="utf-8", newline="\n")

    def __enter__(self) -> Run:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the files; reading back stays possible, logging does not. Closing twice does nothing."""
        for file in self._files.values():
            file.close()
        self._files.clear()

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
        if name not in self._files:
            raise ValueError(f"Run: {self.directory.name} is closed; log inside its 'with' block")
        where = f"Run, series {series!r}, step {step}"
        row: dict[str, Any] = {"series": str(series)}
        row["step"] = _integer(step, f"{where}: step")
        row["epoch"] = _integer(epoch, f"{where}: epoch")
        row.update((key, _number(value, f"{where}: {key}")) for key, value in numbers.items())
        self._files[name].write(_dump(row) + "\n")
        self._files[name].flush()


def read_rows(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Read a file of JSON lines as `Run` writes them.

    Parameters
    ----------
    path : str or path-like
        For example ``runs/…/metrics.jsonl``.

    Returns
    -------
    list of dict
        One per line. ``"NaN"``, ``"Infinity"`` and ``"-Infinity"`` are floats again, except as the series'
        name.

    Raises
    ------
    ValueError
        A line is not a JSON object with a series and a step. A last line without its newline is left out
        instead: it is what a process leaves that was killed while writing.
    OSError
        The file cannot be read.
    """
    rows = []
    lines = Path(path).read_text(encoding="utf-8").split("\n")
    # What follows the last newline is empty, or a line cut short.
    for number, line in enumerate(lines[:-1], start=1):
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"{Path(path).name}, line {number}: not JSON ({error}); got {line[:60]!r}") from error
        if not isinstance(row, dict) or not {"series", "step"} <= row.keys():
            raise ValueError(
                f"{Path(path).name}, line {number}: got {line[:60]!r}; wanted an object with 'series' and 'step'"
            )
        rows.append({key: value if key == "series" else _finite_or_not(value) for key, value in row.items()})
    return rows


def describe_environment(seed: int | None = None) -> dict[str, Any]:
    """Describe what a result depends on besides the settings.

    Parameters
    ----------
    seed : int, optional
        The seed of the run, repeated here.

    Returns
    -------
    dict
        Versions of Python, NumPy, its BLAS and minigrad, the platform, the processor, the number of cores
        this process may use, the variables that limit threads where set, and the seed. Neither the machine's
        name nor any path is in it.
    """
    affinity = getattr(os, "sched_getaffinity", None)  # not on macOS and Windows
    return {
        "minigrad": _own_version(),
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "numpy": np.__version__,
        "blas": _blas(),
        "platform": f"{platform.system()} {platform.machine()}",
        "cpu": _cpu(),
        "cores": len(affinity(0)) if affinity else os.cpu_count(),
        "threads": {name: os.environ[name] for name in _THREAD_VARIABLES if name in os.environ},
        "seed": seed,
    }


def write_text(path: Path, text: str) -> None:
    r"""Write a UTF-8 text file so that it is either the old one or complete.

    Parameters
    ----------
    path : pathlib.Path
        The file; replaced if it exists.
    text : str
        Its content. Lines end in ``\n`` on every platform.

    Raises
    ------
    OSError
        The file cannot be written; the message names it.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_bytes(text.encode("utf-8"))
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise _explained(error, f"cannot write {str(path)!r}") from error


def _explained(error: OSError, what: str) -> OSError:
    """Give an error of the same class that says what was attempted and what to do."""
    reason = error.strerror or str(error)
    return type(error)(f"{what}: {reason}; wanted a place that can be written, choose another directory")


def _make(directory: Path) -> Path:
    """Make a directory, or take an empty one."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        occupied = next(directory.iterdir(), None)
    except OSError as error:
        raise _explained(error, f"Run: cannot create run directory {str(directory)!r}") from error
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
    candidate, number = base, 1
    while True:
        try:
            candidate.mkdir(parents=True)
            return candidate
        except FileExistsError:
            if not base.parent.is_dir():  # a file called runs: no number would help
                raise FileExistsError(f"Run: {str(base.parent)!r} is a file; wanted a directory for runs") from None
            number += 1
            candidate = base.with_name(f"{base.name}-{number}")
        except OSError as error:
            raise _explained(error, f"Run: cannot create run directory {str(candidate)!r}") from error


def _dump(value: Any, indent: int | None = None) -> str:
    """Write JSON that every parser reads: UTF-8, no NaN literals."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent)


def _integer(value: object, where: str) -> int:
    """Give a Python int."""
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool):
        return int(value)
    raise TypeError(f"{where}: got {value!r} of type {type(value).__name__}; wanted an integer")


def _number(value: object, where: str) -> int | float | str:
    """Give a number as JSON holds it; the non-finite ones, which JSON lacks, as strings."""
    if isinstance(value, (np.generic, np.ndarray)) and value.ndim == 0:
        value = value.item()
    if isinstance(value, (bool, int)):
        return int(value)
    if not isinstance(value, float):
        raise TypeError(f"{where}: got {type(value).__name__}; wanted one number")
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _finite_or_not(value: Any) -> Any:
    """Undo `_number`."""
    return _NON_FINITE.get(value, value) if isinstance(value, str) else value


def _plain(value: Any, where: str) -> Any:
    """Give a setting as JSON holds it; `where` is its dotted name, for the error."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, (str, PurePath)):
        return _without_home(str(value))
    if isinstance(value, Mapping):
        return {str(key): _plain(each, f"{where}.{key}") for key, each in value.items()}
    if isinstance(value, np.ndarray) and value.ndim:
        value = value.tolist()
    if isinstance(value, Iterable) and isinstance(value, (list, tuple, range)):
        return [_plain(each, f"{where}[{index}]") for index, each in enumerate(value)]
    try:
        return _number(value, where)
    except TypeError:
        raise TypeError(
            f"Run: {where} is {type(value).__name__}; wanted str, number, bool, None, path, list or mapping"
        ) from None


def _without_home(text: str) -> str:
    """Write a path below the home directory from ``~``: runs are shared, user names need not be."""
    home = str(Path.home())
    if len(home) > 1 and (text == home or text.startswith((home + "/", home + os.sep))):
        return "~" + text[len(home) :]
    return text


def _own_version() -> str:
    """Give the version of the code that runs, installed or not."""
    running = getattr(sys.modules.get("minigrad"), "__version__", None)
    if running is not None:
        return str(running)
    try:
        return importlib.metadata.version("minigrad-norm")
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _cpu() -> str:
    """Give the processor's model: times mean little without it."""
    try:
        described = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:  # not Linux
        described = ""
    model = re.search(r"^model name\s*:\s*(.+)$", described, re.MULTILINE)
    return model[1].strip() if model else platform.processor() or "unknown"


def _blas() -> str:
    """Give name and version of NumPy's linear algebra; its build folders, also known to NumPy, stay out."""
    built = np.show_config(mode="dicts")
    blas = built.get("Build Dependencies", {}).get("blas", {})
    return f"{blas.get('name', 'unknown')} {blas.get('version', '')}".strip()
