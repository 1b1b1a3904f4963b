"""Metrics as TensorBoard event files, in the record format of tensorboardX."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary
from tensorboardX.record_writer import RecordWriter

from minigrad.io.files import explained
from minigrad.run.rows import Number

__all__ = ["EventFiles"]


class EventFiles:
    """Event files in one folder, one tag for each series and measurement: ``batch/loss``.

    A run that is resumed writes a new file; the viewer lets it replace what follows the step at which it begins. The
    metrics of the run remain the truth.

    tensorboardX's SummaryWriter is not used: it writes from a thread of its own, in which a full disk is a traceback,
    and puts the machine's name into that of the file.

    Parameters
    ----------
    folder : pathlib.Path
        Made if it is missing.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file: Any = None

    def add(self, series: str, step: int, numbers: Mapping[str, Number]) -> None:
        """Write measurements; they are in the file when this returns.

        Raises
        ------
        OSError
            The disk is full, for example.
        """
        values = [Summary.Value(tag=f"{series}/{name}", simple_value=float(value)) for name, value in numbers.items()]
        try:
            if self._file is None:  # only now is it known where a resumed run begins
                self._folder.mkdir(exist_ok=True)
                self._file = RecordWriter(str(self._folder / f"events.out.tfevents.{time.time_ns()}"))
                self._write(step, file_version="brain.Event:2")
                self._write(step, session_log=SessionLog(status=SessionLog.START))
            self._write(step, summary=Summary(value=values))
            self._file.flush()
        except OSError as error:
            raise explained(error, f"cannot write event files in {str(self._folder)!r}") from error

    def close(self) -> None:
        """Close the file; all that was added is in it already."""
        if self._file is not None:
            self._file.close()

    def _write(self, step: int, **what: Any) -> None:
        self._file.write(Event(wall_time=time.time(), step=step, **what).SerializeToString())
