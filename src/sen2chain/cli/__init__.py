"""The command ``sen2chain``: options to calls, results to text and exit codes.

Exit codes: 0 all done, 1 an error, 2 an option that cannot be used, 3 nothing came out, 4 a part could not be
extracted, compiled or sent, 5 another run of the job is going on, 6 the installation cannot work, 130 interrupted.

`run` is the program: it starts at once and loads the rest where an interruption is already understood. `group` has the
commands, each in a module of its name: `extract`, `update`, `compile`, `pixels`, `zonal`, `job`, `indices`, `demo` and
`doctor`; that of `stac` is `catalogues`.
`click_command` turns errors into sentences and exit `codes`, `options` has every option that commands share, and `show`
prints. `diagnosis` and `library_probes` find out what `doctor` tells.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
from typing import TYPE_CHECKING

from sen2chain.cli.codes import EXIT_ERROR, EXIT_INTERRUPTED, EXIT_UNUSABLE, INTERRUPTED

if TYPE_CHECKING:
    from sen2chain.cli.group import main

__all__ = ["main", "run"]


def __getattr__(name: str) -> object:
    if name == "main":
        from sen2chain.cli.group import main

        return main
    raise AttributeError(f"module 'sen2chain.cli' has no attribute {name!r}")


def run() -> int:
    """Run the command line of this process and return its exit code."""
    # The first to be registered runs last. From there on nothing is left to be interrupted, and the interpreter, which
    # gives up its handlers then, would let the signal kill the process in the place of its exit code.
    atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)
    _open_streams()
    # GDAL's one thread (see `sen2chain.rasters`) becomes a thread of OpenJPEG, to which each code-block is handed over;
    # that takes longer than to decode a small one. OpenJPEG's own variable, which goes before, makes it do without.
    # Only the program sets it, whose environment is its own.
    os.environ.setdefault("OPJ_NUM_THREADS", "0")
    try:
        try:
            from sen2chain.cli.group import main
        except ImportError as error:  # of the few small libraries that every command needs, `doctor` too
            if "--debug" in sys.argv:
                raise
            sys.stderr.write(f"sen2chain: It cannot start ({error}); install sen2chain and its libraries again.\n")
            sys.exit(EXIT_UNUSABLE)
        main(prog_name="sen2chain")
    except SystemExit as ended:
        code = ended.code
    except KeyboardInterrupt:  # before a command began, or after it ended; in between the command says more
        sys.stderr.write(f"sen2chain: {INTERRUPTED}\n")
        code = EXIT_INTERRUPTED
    else:
        code = 0
    # What is left to the interpreter, as to wait for threads, may be interrupted too.
    signal.signal(signal.SIGINT, lambda *_: os._exit(EXIT_INTERRUPTED))
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader has seen enough; nothing more can be written, not even at the end of the process.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code if isinstance(code, int) else 0 if code is None else EXIT_ERROR


def _open_streams() -> None:
    """Open what the process was started without (`>&-`), so that no file of ours is taken for standard output."""
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(number)
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115  # an open file, for good
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115  # as above
