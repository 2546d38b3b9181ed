"""Ctrl-C, once and twice: the first asks for an orderly end, the second for an end at once."""

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Interrupts:
    """SIGINT, SIGTERM and SIGHUP of this process, as an event of its loop."""

    def __init__(self) -> None:
        self._first = asyncio.Event()
        self._again: Callable[[], None] = lambda: None

    @property
    def asked(self) -> bool:
        """The user has asked for an end."""
        return self._first.is_set()

    async def wait(self) -> None:
        """Until the first."""
        await self._first.wait()

    def on_second(self, act: Callable[[], None]) -> None:
        """What the second one, and every later one, does."""
        self._again = act

    def hear(self) -> None:
        """One more signal."""
        if self._first.is_set():
            self._again()
        self._first.set()


@contextmanager
def heard() -> Iterator[Interrupts]:
    """Takes the signals over for the block."""
    loop = asyncio.get_running_loop()
    interrupts = Interrupts()
    # nohup and shells in the background ignore some of them on purpose.
    numbers = [
        number
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(number) is not signal.SIG_IGN
    ]
    for number in numbers:
        loop.add_signal_handler(number, interrupts.hear)
    try:
        yield interrupts
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
