"""Keeps the processes of one container together: the program that stands between the runner and what it runs.

A process that a container started may daemonise, move to a session of its own or outlive the one that started it, and
the runner itself may be killed. So each container hangs on a keeper that adopts whatever its tree lets go of
(PR_SET_CHILD_SUBREAPER) and ends all of it when the main process ends, as a container's end does.

Standard input is the lifeline. A byte read from it is a signal's number, sent to the main process alone, as a kubelet
does it; its end means that the runner is gone, and then the tree is ended too. The exit status is the main process's,
128 + n where signal n ended it.

Started as `python -I -S keeper.py ORPHAN_GRACE ARGV...` (seconds that the main process has after SIGTERM when the
runner is gone); imports nothing but the standard library, so that it costs some 20 ms and 8 MB.
"""

import contextlib
import ctypes
import os
import select
import signal
import sys
import time
from typing import NoReturn

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_LIFELINE = 0
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)


def main(argv: list[str]) -> int:
    """Runs `argv[1:]` as the main process and returns its exit status once nothing of its tree is left."""
    orphan_grace, command = float(argv[0]), argv[1:]
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")
    # Descriptors that were handed to the keeper are its own: they close when the last of the tree is gone.
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2:
            _uninherit(int(name))

    # Held back until each of the two has its own handlers: none gets lost, and none reaches the wrong one.
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    keeper = os.getpid()
    child = os.fork()
    if child == 0:
        _become(command, keeper, libc)
    awake, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)

    poller = select.poll()
    poller.register(_LIFELINE, select.POLLIN)
    poller.register(awake, select.POLLIN)
    deadline: float | None = None
    while True:
        left = None if deadline is None else max(0.0, deadline - time.monotonic()) * 1000
        for descriptor, _ in poller.poll(left):
            order = os.read(descriptor, 64)
            if descriptor == _LIFELINE and order:
                for number in order:
                    os.kill(child, number)
                continue
            orphaned = descriptor == _LIFELINE or signal.SIGTERM in order
            if orphaned and deadline is None:
                deadline = time.monotonic() + orphan_grace
                os.kill(child, signal.SIGTERM)
            if descriptor == _LIFELINE:
                poller.unregister(_LIFELINE)
        status = _reap(child)
        if status is None and deadline is not None and time.monotonic() >= deadline:
            os.kill(child, signal.SIGKILL)
            deadline = None
            _, status = os.waitpid(child, 0)
        if status is not None:
            _end_rest()
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


def _uninherit(descriptor: int) -> None:
    with contextlib.suppress(OSError):  # the listing's own is closed by then
        os.set_inheritable(descriptor, False)


def _become(command: list[str], keeper: int, libc: ctypes.CDLL) -> NoReturn:
    """Turns the forked child into the main process."""
    try:
        os.setsid()
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != keeper:
            os._exit(137)
        os.dup2(os.open(os.devnull, os.O_RDONLY), _LIFELINE)
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        os.execvp(command[0], command)  # noqa: S606 - the very purpose
    except OSError as error:
        os.write(2, f"can't run {command[0]}: {error.strerror}\n".encode())
        os._exit(127 if isinstance(error, FileNotFoundError) else 126)


def _reap(child: int) -> int | None:
    """Collects what has ended, orphans too, and returns the main process's wait status if it is among them."""
    while True:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == child:
            return status
        if pid == 0:
            return None


def _end_rest() -> None:
    """Kills all that is left of the tree: as parents die, their children come to this process, and go in turn."""
    me = os.getpid()
    while True:
        with open(f"/proc/{me}/task/{me}/children") as listing:
            for pid in listing.read().split():
                os.kill(int(pid), signal.SIGKILL)
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
