"""Live progress of training: on a terminal a bar, drawn by the package tqdm; elsewhere one plain line per epoch."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, TextIO

from minigrad.run.text import display_width, format_duration, format_number, format_percent, pad, printable

__all__ = ["Progress"]


@dataclass
class _State:
    """Where one series stands; times are readings of the clock in seconds."""

    name: str
    epochs: int
    steps: int
    started: float
    done: int  # steps of earlier processes
    bar: Any = None
    now: float = field(init=False)
    epoch: int = 0
    ended_epoch: int = 0
    step: int = 0
    loss: float | None = None
    accuracy: float | None = None
    finished: bool = False

    def __post_init__(self) -> None:
        self.now, self.step = self.started, self.done

    @property
    def rate(self) -> float:
        """Steps per second since the start, evaluation included, so that the time left is an honest one."""
        elapsed = self.now - self.started
        return (self.step - self.done) / elapsed if elapsed > 0 else 0.0

    def measured(self) -> list[str]:
        """Epoch, loss and accuracy."""
        parts = [f"epoch {_of(self.epoch, self.epochs)}"]
        parts += [] if self.loss is None else [f"loss {_loss(self.loss)}"]
        parts += [] if self.accuracy is None else [f"accuracy {format_percent(self.accuracy)}"]
        return parts


class Progress:
    """Show how training goes on, for one series after the other or for several at once.

    On a terminal each series has a bar, if tqdm is installed (the extra ``progress``); it stays when the series
    finishes. Elsewhere (a file, a pipe, no tqdm) one plain line is written per epoch and series and nothing else.
    Leaving the ``with`` block, also through KeyboardInterrupt, leaves the cursor at the start of a fresh line and
    lets the exception pass.

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
        terminal = self._stream.isatty() and os.environ.get("TERM") != "dumb"
        self._bar = _bars() if terminal else None
        self._states: dict[str, _State] = {}

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self, series: str, *, epochs: int, steps: int, done: int = 0) -> None:
        """Begin a series; its clock starts.

        Parameters
        ----------
        series : str
            Its name.
        epochs, steps : int
            How many there will be in all.
        done : int
            Steps that an earlier process has taken.

        Raises
        ------
        ValueError
            A series of this name has been started already.
        """
        if series in self._states:
            raise ValueError(f"Progress.start: series {series!r} has been started already; wanted another name")
        state = self._states[series] = _State(printable(series), epochs, steps, self._clock(), done)
        if self._bar:
            state.bar = self._bar(total=steps, initial=done, desc=state.name, unit="step", file=self._stream,
                                  dynamic_ncols=True, mininterval=self._interval)

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
        state = self._running(series, "update")
        taken = step - state.step
        state.step, state.epoch, state.now = step, epoch, self._clock()
        state.loss = state.loss if loss is None else loss
        if state.bar is not None:
            state.bar.set_postfix_str("  ".join(state.measured()), refresh=False)
            state.bar.update(taken)

    def end_epoch(
        self, series: str, *, step: int, epoch: int, loss: float | None = None, accuracy: float | None = None
    ) -> None:
        """Tell that an epoch is over; where there is no bar, this writes its line.

        Parameters
        ----------
        series, step, epoch, loss
            As in `update`; `epoch` is the one that ended.
        accuracy : float, optional
            The accuracy as a fraction between 0 and 1.

        Raises
        ------
        ValueError
            The series is not running, or this epoch of it has ended before.
        """
        state = self._running(series, "end_epoch")
        if epoch <= state.ended_epoch:
            raise ValueError(
                f"Progress.end_epoch: series {series!r} ended epoch {epoch} after epoch {state.ended_epoch}; "
                "wanted each epoch once, in order"
            )
        state.ended_epoch = epoch
        state.accuracy = state.accuracy if accuracy is None else accuracy
        self.update(series, step=step, epoch=epoch, loss=loss)
        if state.bar is None:
            self._write(self._line(state) + "\n")

    def finish(self, series: str) -> None:
        """Tell that a series is over; its bar stays.

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
        state.finished = True
        _close(state)

    def close(self) -> None:
        """Leave the cursor on a fresh line below what is shown. Closing twice does nothing."""
        for state in self._states.values():
            _close(state)

    def _running(self, series: str, method: str) -> _State:
        """Give the state of a running series."""
        state = self._states.get(series)
        if state is None or state.finished:
            running = [name for name, each in self._states.items() if not each.finished]
            raise ValueError(f"Progress.{method}: series {series!r} is not running; running are {running}")
        return state

    def _line(self, state: _State) -> str:
        """Write a series' plain line."""
        name = pad(state.name, max(display_width(each.name) for each in self._states.values()))
        left = (state.steps - state.step) / state.rate if state.rate > 0 else float("inf")
        epoch, *measured = state.measured()
        parts = [name, epoch, f"step {_of(state.step, state.steps)}", *measured,
                 f"{format_number(state.rate, 3)} steps/s", f"{format_duration(left)} left"]
        return "  ".join(parts)

    def _write(self, text: str) -> None:
        """Write and flush; characters that the stream's encoding lacks become question marks."""
        encoding = getattr(self._stream, "encoding", None) or "utf-8"
        self._stream.write(text.encode(encoding, errors="replace").decode(encoding))
        self._stream.flush()


def _bars() -> Any:
    """The class of bars; None without tqdm."""
    try:
        from tqdm import tqdm
    except ImportError:
        return None

    class Bar(tqdm):  # type: ignore[misc]
        monitor_interval = 0  # no thread that redraws bars which nobody updates

    return Bar


def _close(state: _State) -> None:
    """Let go of a bar, with its latest figures."""
    if state.bar is not None:
        state.bar.refresh()
        state.bar.close()
        state.bar = None


def _of(done: int, total: int) -> str:
    """Write ``done/total`` in a constant width, so that the line does not jump."""
    whole = format_number(total)
    return f"{format_number(done):>{len(whole)}}/{whole}"


def _loss(value: float) -> str:
    """Write a loss with a constant number of decimals where its size allows it."""
    return f"{value:.4f}" if 1e-3 <= abs(value) < 1e4 else format_number(value)
