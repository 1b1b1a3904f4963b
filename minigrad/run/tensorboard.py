"""Metrics as TensorBoard event files, through tensorboardX."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tensorboardX import SummaryWriter

from minigrad.run.rows import Number

__all__ = ["EventFiles"]


class EventFiles:
    """Event files in one folder, one tag for each series and measurement: ``batch/loss``.

    A run that is resumed writes a new file; the viewer lets it replace what follows the step at which it begins. The
    metrics of the run remain the truth.

    Parameters
    ----------
    folder : pathlib.Path
        Made if it is missing.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writer: SummaryWriter | None = None

    def add(self, series: str, step: int, numbers: Mapping[str, Number]) -> None:
        """Write measurements; they are in the file when this returns."""
        if self._writer is None:  # only now is it known where a resumed run begins
            self._writer = SummaryWriter(str(self._folder), purge_step=step, flush_secs=10,
                                         filename_suffix=f".{step}")  # names are as fine as seconds, without it
        for name, value in numbers.items():
            self._writer.add_scalar(f"{series}/{name}", float(value), step)
        self._writer.flush()

    def close(self) -> None:
        """Close the file."""
        if self._writer is not None:
            self._writer.close()
