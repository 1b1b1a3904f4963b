"""Progress: exactly one plain line per epoch without a terminal; on one, a bar."""

import builtins
import io
import re
import threading

import pytest

from minigrad.run.progress import Progress


class Clock:
    """A clock that is set by hand, in seconds."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def ordinary_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("LINES", "24")


def train(progress: Progress, clock: Clock, series: str, epochs: int = 3, per_epoch: int = 100) -> None:
    progress.start(series, epochs=epochs, steps=epochs * per_epoch)
    step = 0
    for epoch in range(1, epochs + 1):
        for _ in range(per_epoch):
            clock.now += 0.01
            step += 1
            progress.update(series, step=step, epoch=epoch, loss=1 / step)
        progress.end_epoch(series, step=step, epoch=epoch, loss=1 / step, accuracy=epoch / 10)
    progress.finish(series)


def test_without_a_terminal_there_is_one_line_per_epoch() -> None:
    stream, clock = io.StringIO(), Clock()
    with Progress(stream, clock=clock) as progress:
        train(progress, clock, "none")
    assert stream.getvalue().splitlines() == [
        "none  epoch 1/3  step 100/300  loss 0.0100  accuracy 10.0 %  100 steps/s  0:02 left",
        "none  epoch 2/3  step 200/300  loss 0.0050  accuracy 20.0 %  100 steps/s  0:01 left",
        "none  epoch 3/3  step 300/300  loss 0.0033  accuracy 30.0 %  100 steps/s  0:00 left",
    ]


def test_lines_of_ten_epochs_are_aligned() -> None:
    stream, clock = io.StringIO(), Clock()
    with Progress(stream, clock=clock) as progress:
        train(progress, clock, "a", epochs=10)
    lines = stream.getvalue().splitlines()
    assert lines[0] == "a  epoch  1/10  step   100/1,000  loss 0.0100  accuracy 10.0 %  100 steps/s  0:09 left"
    assert lines[9] == "a  epoch 10/10  step 1,000/1,000  loss 0.0010  accuracy 100.0 %  100 steps/s  0:00 left"


def test_a_resumed_run_counts_its_rate_from_where_it_went_on() -> None:
    stream, clock = io.StringIO(), Clock()
    with Progress(stream, clock=clock) as progress:
        progress.start("a", epochs=2, steps=200, done=100)
        clock.now = 50.0
        progress.end_epoch("a", step=150, epoch=2)
    assert stream.getvalue() == "a  epoch 2/2  step 150/200  1.00 steps/s  0:50 left\n"


def test_with_a_dumb_terminal_or_without_tqdm_lines_are_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = io.StringIO()
    with Progress(expected, clock=(clock := Clock())) as progress:
        train(progress, clock, "a")

    def shown() -> str:
        stream, clock = Terminal(), Clock()
        with Progress(stream, clock=clock) as progress:
            train(progress, clock, "a")
        return stream.getvalue()

    monkeypatch.setenv("TERM", "dumb")
    assert shown() == expected.getvalue()
    monkeypatch.setenv("TERM", "xterm")
    real = builtins.__import__

    def without(name: str, *rest: object) -> object:
        if name.partition(".")[0] == "tqdm":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    assert shown() == expected.getvalue()


def test_a_terminal_shows_a_bar_that_stays() -> None:
    pytest.importorskip("tqdm")
    stream, clock = Terminal(), Clock()
    before = threading.active_count()
    with Progress(stream, clock=clock, interval=0) as progress:
        train(progress, clock, "with \x1b[31mcolour")
        assert threading.active_count() == before
    text = stream.getvalue()
    last = re.split(r"[\r\n]", text.rstrip("\n"))[-1]
    assert last.startswith("with \N{REPLACEMENT CHARACTER}[31mcolour: 100%")
    assert "300/300" in last
    assert "epoch 3/3  loss 0.0033  accuracy 30.0 %" in last
    assert text.endswith("\n")
    assert text.count("\n") == 1
    assert "\x1b[31m" not in text


def test_a_bar_begins_where_a_run_went_on() -> None:
    pytest.importorskip("tqdm")
    stream = Terminal()
    with Progress(stream, interval=0) as progress:
        progress.start("a", epochs=2, steps=200, done=100)
        progress.update("a", step=150, epoch=2)
    assert "150/200" in stream.getvalue()
    assert " 50%" in stream.getvalue()


def test_an_interrupt_passes_and_leaves_a_fresh_line() -> None:
    pytest.importorskip("tqdm")
    stream = Terminal()

    def broken_off() -> None:
        with Progress(stream, interval=0) as progress:
            progress.start("a", epochs=1, steps=10)
            progress.update("a", step=3, epoch=1, loss=0.5)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        broken_off()
    assert stream.getvalue().endswith("\n")


def test_what_an_encoding_lacks_becomes_a_question_mark() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii", newline="\n")
    with Progress(stream) as progress:
        progress.start("größe", epochs=1, steps=1)
        progress.end_epoch("größe", step=1, epoch=1)
    assert raw.getvalue().startswith(b"gr??e  epoch 1/1")


def test_misuse_is_named() -> None:
    with Progress(io.StringIO()) as progress:
        progress.start("a", epochs=1, steps=1)
        with pytest.raises(ValueError, match="'a' has been started already"):
            progress.start("a", epochs=1, steps=1)
        with pytest.raises(ValueError, match=r"update: series 'b' is not running; running are \['a'\]"):
            progress.update("b", step=1, epoch=1)
        progress.end_epoch("a", step=1, epoch=1)
        with pytest.raises(ValueError, match="ended epoch 1 after epoch 1"):
            progress.end_epoch("a", step=1, epoch=1)
        progress.finish("a")
        with pytest.raises(ValueError, match="finish: series 'a' is not running"):
            progress.finish("a")
        progress.close()
