"""A small process beside a command, which still has a sentence when that one dies for want of memory.

The system kills a process when no memory is left, and C++ and LLVM abort theirs when they are refused some:
nothing in that process can say why any more.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable

from splatomy.errors import MEMORY_SIGNALS

_PASSED_ON = (signal.SIGINT, signal.SIGTERM)
_PR_SET_PDEATHSIG = 1


def watched(work: Callable[[], int], told: Callable[[int], int]) -> int:
    """The exit code of ``work``, which is done in a process forked from this one; Linux alone.

    Elsewhere it is done in this one. Returns in both processes; the work dies with this process. told: makes
    an exit code, after saying why, of the signal that ended the work for want of memory; of any other signal
    this process dies too.
    """
    if sys.platform != "linux":
        return work()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    awaited = {*_PASSED_ON, signal.SIGCHLD}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, awaited)
    parent, pid = os.getpid(), os.fork()
    if pid == 0:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return work()
    code = os.waitstatus_to_exitcode(_status(pid, awaited))
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    if code >= 0:
        return code
    if -code in MEMORY_SIGNALS:
        return told(-code)
    signal.signal(-code, signal.SIG_DFL)
    os.kill(parent, -code)
    return 1


def _status(pid: int, awaited: set[signal.Signals]) -> int:
    """Waits for the process, and passes on what others send to this one."""
    while True:
        got = signal.sigwaitinfo(awaited)
        if got.si_signo == signal.SIGCHLD:
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                return status
        elif got.si_code <= 0:
            # A Ctrl-C comes from the kernel, and to all processes of the terminal.
            os.kill(pid, got.si_signo)
