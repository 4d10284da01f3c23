"""Children that share this process's imports, are killed where an attack wants it, and are not waited for too long."""

from __future__ import annotations

import os
import resource
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

PATIENCE = 20.0
"""Seconds without a sign of life after which a child counts as hanging."""
WRITING = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.chmod", "shutil.rmtree", "shutil.copyfile"}
"""Audit events before which a file or folder is changed, besides ``open`` for writing."""


@dataclass(frozen=True)
class Ended:
    """How a child ended."""

    code: int | None
    """Exit code, the negative number of a signal, or none: it hung."""
    text: str
    """What it printed."""
    seconds: float


class Child:
    """``work`` in a process of its own; what it prints goes through a pipe, which no limit on files concerns."""

    def __init__(self, work: Callable[[], int | None]) -> None:
        sys.stdout.flush()
        self._read, write = os.pipe()
        self._start = time.monotonic()
        self.pid = os.fork()
        if self.pid:
            os.close(write)
            return
        code = 70
        try:
            os.close(self._read)
            for stream in (1, 2):
                os.dup2(write, stream)
            code = work() or 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def lines(self, patience: float = PATIENCE) -> Iterator[str]:
        """What it prints, line by line, as long as it goes on printing."""
        rest = b""
        while select.select([self._read], [], [], patience)[0]:
            if not (new := os.read(self._read, 1 << 16)):
                break
            *whole, rest = (rest + new).split(b"\n")
            yield from (line.decode(errors="replace") for line in whole)
        if rest:
            yield rest.decode(errors="replace")

    def wait(self, seconds: float = PATIENCE) -> Ended:
        """Its end, or that it hung and had to be killed."""
        text: list[str] = []
        while (left := self._start + seconds - time.monotonic()) > 0 and select.select([self._read], [], [], left)[0]:
            if not (new := os.read(self._read, 1 << 16)):
                break
            text.append(new.decode(errors="replace"))
        hung = left <= 0 or not self._is_over(self._start + seconds)
        code = self.end()
        return Ended(None if hung else code, "".join(text), time.monotonic() - self._start)

    def end(self) -> int:
        """Kill it, if it lives, and return its exit code or the negative number of a signal."""
        if not self._status:
            os.kill(self.pid, signal.SIGKILL)
            self._status = os.waitpid(self.pid, 0)[1:]
        os.close(self._read)
        return os.waitstatus_to_exitcode(self._status[0])

    _status: tuple[int, ...] = ()

    def _is_over(self, deadline: float) -> bool:
        """Whether it ends by then: it has closed its pipe."""
        while time.monotonic() < deadline:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self._status = (status,)
                return True
            time.sleep(0.001)
        return False


def at_each_write(action: Callable[[int], None]) -> None:
    """Call ``action`` with 0, 1, ... before each change below the working folder, from now on; logs do not count."""
    count, folder = 0, f"{Path.cwd()}{os.sep}"

    def hook(event: str, args: tuple[object, ...]) -> None:
        nonlocal count
        if event == "open":
            writes = isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        else:
            writes = event in WRITING
        if not writes or not isinstance(args[0], str | bytes | os.PathLike):
            return
        path = os.path.join(folder, os.fsdecode(args[0]))  # noqa: PTH118 - names need not be text
        if path.startswith(folder) and not path.startswith(f"{folder}logs"):
            number, count = count, count + 1
            action(number)

    sys.addaudithook(hook)


def kill_at(number: int) -> None:
    """Kill this process before change ``number``, as the kernel kills: nothing is cleared up."""

    def action(count: int) -> None:
        if count == number:
            os.kill(os.getpid(), signal.SIGKILL)

    at_each_write(action)


def limit_files(size: int, *, deadly: bool) -> None:
    """Let no file of this process grow beyond ``size`` bytes: the write fails, or (``deadly``) kills in its middle."""
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL if deadly else signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
