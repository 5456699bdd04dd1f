"""Ctrl-C, and the SIGTERM of a scheduler: both end a run in order, once."""

import contextlib
import signal
import time
from collections.abc import Iterator
from types import FrameType

_DEAF_SECONDS = 5.0
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_heeded: list[float] = []


def heed_once() -> None:
    """A signal raises KeyboardInterrupt; what it sets in motion is not cut short by the next.

    After some seconds a further one counts again.
    """
    for number in _SIGNALS:
        signal.signal(number, _interrupt)


def _interrupt(number: int, frame: FrameType | None) -> None:
    if not _heeded or time.monotonic() - _heeded[-1] > _DEAF_SECONDS:
        _heeded.append(time.monotonic())
        raise KeyboardInterrupt


def check() -> None:
    """Raises KeyboardInterrupt if one has been lost, as happens in a finalizer or a callback."""
    if _heeded:
        raise KeyboardInterrupt


def ignore() -> None:
    """The process is about to end, with the status that it has."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)


@contextlib.contextmanager
def deferred() -> Iterator[None]:
    """Signals wait until the block has ended: some libraries hang if they are interrupted.

    For the main thread alone, which is the one that Python interrupts.
    """
    arrived: list[int] = []
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    for number in _SIGNALS:
        signal.signal(number, lambda number, _: arrived.append(number))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for number in arrived[:1]:
            signal.raise_signal(number)
