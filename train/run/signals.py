"""Ctrl-C, the signals of batch systems and SIGHUP (the terminal was closed) end a run in one line; nothing is lost.

A closed pipe, as in `python -m train.sweep | head -1`, does not end it.
"""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import TextIO

# Batch systems send USR1, USR2 or XCPU some time before they kill. Windows has only the first two.
NAMES = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}
NAMES |= {getattr(signal, name): name for name in ("SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU") if hasattr(signal, name)}


class Interrupted(BaseException):
    """Raised by a signal that ends the program. Not an `Exception`, so that no handler of errors swallows it."""

    def __init__(self, number: int, message: str = ""):
        super().__init__(f"stopped by {NAMES[number]}" + (f"; {message}" if message else ""))
        self.number = number


class Signals:
    """Handles signals: raises `Interrupted` at once or, within `deferred()`, stores the signal in `received`."""

    def __init__(self):
        self.received: int | None = None
        self.waits = False

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Store a signal, so that the training loop ends after a step: half a step would update half of the weights.

        A second signal raises at once. Under torchrun it does not: there every process gets the same signal twice,
        from the terminal or the batch system and from torchrun, which has its own time limit.
        """
        self.waits = True
        try:
            yield
        finally:
            self.waits = False

    def handle(self, number: int, frame: object) -> None:
        if self.waits and (self.received is None or "TORCHELASTIC_RUN_ID" in os.environ):
            self.received = number
        else:
            raise Interrupted(number)


class IgnoringClosedPipe:
    """Stdout or stderr that ignores a closed pipe: the run continues, and what it prints is lost."""

    def __init__(self, stream: TextIO):
        self.stream = stream

    def write(self, text: str) -> int:
        self.attempt(self.stream.write, text)
        return len(text)

    def flush(self) -> None:
        self.attempt(self.stream.flush)

    def attempt(self, call: Callable, *arguments) -> None:
        try:
            call(*arguments)
        except OSError:  # a pipe that nobody reads, a terminal that is closed, a log on a full disk
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.stream.fileno())

    def __getattr__(self, name: str):
        return getattr(self.stream, name)


@contextmanager
def ending_in_one_line() -> Iterator[Signals]:
    """Around a whole command: a signal ends it with one line and the exit code that shells expect, 128 + its number."""
    signals = Signals()
    # Ignored signals stay ignored: `nohup` ignores SIGHUP, and a shell ignores SIGINT for its background jobs.
    heard = [number for number in NAMES if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, signals.handle) for number in heard}
    with redirect_stdout(IgnoringClosedPipe(sys.stdout)), redirect_stderr(IgnoringClosedPipe(sys.stderr)):
        try:
            yield signals
        except Interrupted as interrupted:
            print(f"\n{interrupted}", file=sys.stderr, flush=True)
            sys.exit(128 + interrupted.number)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        sys.stdout.flush()  # while a failure is still ignored
