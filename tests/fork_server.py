"""A server that forks runs, for tests that kill them: a new interpreter would take most of the time to import.

A script that is started with ``--serve`` calls `serve`; a `ForkServer` starts it so and asks it for runs.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import traceback
from typing import IO, TYPE_CHECKING, Any, cast

import numba
import pyarrow.dataset  # noqa: F401  # here and the next: imported late by the package, once for all runs
import scipy.linalg  # noqa: F401

if TYPE_CHECKING:
    from collections.abc import Callable


class ForkServer:
    """A process that forks runs of a script.

    Parameters
    ----------
    script
        The script whose `serve` answers.
    """

    def __init__(self, script: str) -> None:
        self._server = subprocess.Popen(  # noqa: S603  # our own interpreter
            [sys.executable, script, "--serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def start(self, work: str, **options: Any) -> int:
        """Start a run and return its process."""
        return self._ask(work=work, options=options)

    def wait(self, process: int) -> int:
        """Wait for a process and return its exit code."""
        return self._ask(wait=process)

    def close(self) -> None:
        """Stop the server."""
        self._server.kill()
        self._server.communicate()

    def _ask(self, **asked: Any) -> int:
        to, back = cast("IO[str]", self._server.stdin), cast("IO[str]", self._server.stdout)
        to.write(json.dumps(asked, default=str) + "\n")
        to.flush()
        return int(back.readline())


def serve(work: dict[str, Callable[..., None]]) -> None:
    """Fork a run of the function that each line names, or wait for one, until there is no more line."""
    numba.njit("f8(f8)")(lambda value: value)  # numba imports half of itself when it meets the first machine code
    for line in sys.stdin:
        asked = json.loads(line)
        if "wait" in asked:
            print(os.waitstatus_to_exitcode(os.waitpid(asked["wait"], 0)[1]), flush=True)  # noqa: T201
            continue
        pid = os.fork()
        if not pid:
            try:
                work[asked["work"]](**asked["options"])
            except BaseException:  # noqa: BLE001  # the exit code tells the parent
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        print(pid, flush=True)  # noqa: T201
