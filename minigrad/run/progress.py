"""Live progress of training: lines rewritten in place on a terminal, elsewhere one plain line per epoch."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import TextIO

from minigrad.run.text import (
    display_width,
    format_duration,
    format_number,
    format_percent,
    pad,
    printable,
    shorten,
)

_CLEAR_TO_END = "\x1b[K"


@dataclass
class _State:
    """Where one series stands; times are readings of the clock in seconds."""

    name: str
    epochs: int
    steps: int
    started: float
    now: float
    epoch: int = 0
    ended_epoch: int = 0
    step: int = 0
    loss: float | None = None
    accuracy: float | None = None
    finished: bool = False

    @property
    def rate(self) -> float:
        """Steps per second since the start, evaluation included, so that the time left is an honest one."""
        elapsed = self.now - self.started
        return self.step / elapsed if elapsed > 0 else 0.0


class Progress:
    """Show how training goes on, for one series after the other or for several at once.

    On a terminal each running series has one line, rewritten in place at most ``1 / interval`` times a second
    and cut to the terminal's width; when a series finishes, its last line stays. Elsewhere (a file, a pipe, a
    notebook) one plain line is written per epoch and series and nothing else. Leaving the ``with`` block,
    also through KeyboardInterrupt, leaves the cursor at the start of a fresh line and lets the exception
    pass.

    Parameters
    ----------
    stream : text stream, optional
        Where to write; `sys.stdout` by default. It decides by ``isatty()`` which of the two forms is used;
        with ``TERM=dumb`` the plain form is.
    interval : float
        Seconds between two redraws at least.
    clock : callable
        Gives the time in seconds; never runs backwards.

    Examples
    --------
    >>> with Progress() as progress:
    ...     progress.start("batch", epochs=1, steps=2)
    ...     progress.update("batch", step=1, epoch=1, loss=2.30)
    ...     progress.end_epoch("batch", step=2, epoch=1, loss=2.25, accuracy=0.31)  # doctest: +ELLIPSIS
    ...     progress.finish("batch")
    batch  epoch 1/1  step 2/2  loss 2.2500  accuracy 31.0 %  ... steps/s  0:00 left
    """

    def __init__(
        self,
        stream: TextIO | None = None,
        *,
        interval: float = 0.2,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream = sys.stdout if stream is None else stream
        self._interval = interval
        self._clock = clock
        self._live = self._stream.isatty() and os.environ.get("TERM") != "dumb"
        self._states: dict[str, _State] = {}
        self._shown = 0  # live lines on the screen, the cursor being at the end of the last
        self._drawn = -float("inf")

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self, series: str, *, epochs: int, steps: int) -> None:
        """Begin a series; its clock starts.

        Parameters
        ----------
        series : str
            Its name.
        epochs, steps : int
            How many there will be in all.

        Raises
        ------
        ValueError
            A series of this name has been started already.
        """
        if series in self._states:
            raise ValueError(f"Progress.start: series {series!r} has been started already; wanted another name")
        now = self._clock()
        self._states[series] = _State(printable(series), epochs, steps, started=now, now=now)
        self._refresh()

    def update(self, series: str, *, step: int, epoch: int, loss: float | None = None) -> None:
        """Tell where a series stands; cheap enough to be called at every step.

        Parameters
        ----------
        series : str
            A running series.
        step : int
            Optimizer steps taken so far.
        epoch : int
            The epoch under way, counted from 1.
        loss : float, optional
            The training loss; the one shown stays where this is None.

        Raises
        ------
        ValueError
            The series is not running.
        """
        self._note(series, step, epoch, loss)
        self._refresh()

    def end_epoch(
        self, series: str, *, step: int, epoch: int, loss: float | None = None, accuracy: float | None = None
    ) -> None:
        """Tell that an epoch is over; where there is no terminal, this writes its line.

        Parameters
        ----------
        series, step, epoch, loss
            As in `update`; `epoch` is the one that ended.
        accuracy : float, optional
            The test accuracy as a fraction between 0 and 1.

        Raises
        ------
        ValueError
            The series is not running, or this epoch of it has ended before.
        """
        state = self._note(series, step, epoch, loss)
        if epoch <= state.ended_epoch:
            raise ValueError(
                f"Progress.end_epoch: series {series!r} ended epoch {epoch} after epoch {state.ended_epoch}; "
                "wanted each epoch once, in order"
            )
        state.ended_epoch = epoch
        state.accuracy = state.accuracy if accuracy is None else accuracy
        if self._live:
            self._refresh()
        else:
            self._write(self._line(state) + "\n")

    def finish(self, series: str) -> None:
        """Tell that a series is over; on a terminal its line stays, with the time it took.

        Parameters
        ----------
        series : str
            A running series.

        Raises
        ------
        ValueError
            The series is not running.
        """
        state = self._running(series, "finish")
        state.now = self._clock()
        state.finished = True
        if self._live:
            self._draw(above=self._line(state, self._columns()))

    def close(self) -> None:
        """Leave the cursor on a fresh line below what is shown. Closing twice does nothing."""
        if self._live and self._shown:
            self._draw()
            self._write("\n")
        self._shown = 0
        self._live = False

    def _running(self, series: str, method: str) -> _State:
        """Give the state of a running series."""
        state = self._states.get(series)
        if state is None or state.finished:
            running = [name for name, each in self._states.items() if not each.finished]
            raise ValueError(f"Progress.{method}: series {series!r} is not running; running are {running}")
        return state

    def _note(self, series: str, step: int, epoch: int, loss: float | None) -> _State:
        """Take in what `update` and `end_epoch` share."""
        state = self._running(series, "update")
        state.step, state.epoch, state.now = step, epoch, self._clock()
        state.loss = state.loss if loss is None else loss
        return state

    def _refresh(self) -> None:
        """Redraw, unless the last time was just now."""
        if self._live and self._clock() - self._drawn >= self._interval:
            self._draw()

    def _draw(self, above: str | None = None) -> None:
        """Rewrite the live lines with one write, each over its predecessor, so that nothing flickers.

        `above` is a finished line that stays where the block began; the block continues below it.
        """
        size = self._size()
        # The cursor cannot move above the top of the screen, so the block stays lower than that.
        running = [state for state in self._states.values() if not state.finished][: max(1, size.lines - 1)]
        lines = [self._line(state, size.columns - 1) + _CLEAR_TO_END for state in running]
        up = f"\x1b[{self._shown - 1}A" if self._shown > 1 else ""
        kept = "" if above is None else above + _CLEAR_TO_END + "\n"
        self._write(up + "\r" + kept + "\n".join(lines))
        self._shown = len(lines)
        self._drawn = self._clock()

    def _line(self, state: _State, columns: int | None = None) -> str:
        """Write a series' line; where `columns` are too few, the least telling parts are left out first."""
        name = pad(state.name, max(display_width(each.name) for each in self._states.values()))
        rate = state.rate
        remaining = (state.steps - state.step) / rate if rate > 0 else float("inf")
        if state.finished:
            clock = f"took {format_duration(state.now - state.started)}"
        else:
            clock = f"{format_duration(remaining)} left"
        # Each part with its rank: the highest goes first when the line is too wide.
        parts = [
            (0, name),
            (1, f"epoch {_of(state.epoch, state.epochs)}"),
            (5, f"step {_of(state.step, state.steps)}"),
            (2, "" if state.loss is None else f"loss {_loss(state.loss)}"),
            (3, "" if state.accuracy is None else f"accuracy {format_percent(state.accuracy)}"),
            (6, f"{format_number(rate, 3)} steps/s"),
            (4, clock),
        ]
        parts = [part for part in parts if part[1]]
        line = "  ".join(text for _, text in parts)
        while columns is not None and display_width(line) > columns and len(parts) > 1:
            parts.remove(max(parts))
            line = "  ".join(text for _, text in parts)
        return line if columns is None else shorten(line, max(0, columns))

    def _columns(self) -> int:
        """Give the columns a line may fill; the last stays free, where some terminals already wrap."""
        return self._size().columns - 1

    def _size(self) -> os.terminal_size:
        """Give the terminal's size now: windows are resized."""
        try:
            return os.get_terminal_size(self._stream.fileno())
        except (OSError, ValueError, AttributeError):
            return shutil.get_terminal_size()

    def _write(self, text: str) -> None:
        """Write and flush; characters that the stream's encoding lacks become question marks."""
        encoding = getattr(self._stream, "encoding", None) or "utf-8"
        self._stream.write(text.encode(encoding, errors="replace").decode(encoding))
        self._stream.flush()


def _of(done: int, total: int) -> str:
    """Write ``done/total`` in a constant width, so that the line does not jump."""
    whole = format_number(total)
    return f"{format_number(done):>{len(whole)}}/{whole}"


def _loss(value: float) -> str:
    """Write a loss with a constant number of decimals where its size allows it."""
    return f"{value:.4f}" if 1e-3 <= abs(value) < 1e4 else format_number(value)
