"""The command that a scheduler starts for a job, written for the crontab and for a unit of systemd."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import quote

from sen2chain.errors import ScheduleError
from sen2chain.files import absolute
from sen2chain.settings import CACHE_VARIABLE, HOME_VARIABLE

_PASSED_ON = (CACHE_VARIABLE, "RSYNC_RSH")
"""Variables that a run needs as they are now. None of them holds a secret."""

_LONGEST = 998
"""Largest length of a command in bytes; Debian's `crontab` refuses 999 as "command too long"."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class JobCommand:
    """A program with its arguments and variables.

    Raises
    ------
    ScheduleError
        If a text holds a line break or another control character, which neither a crontab nor a unit can hold.
    """

    name: str
    """The job's, which is valid."""
    arguments: tuple[str, ...]
    """The program, as an absolute path, and its arguments."""
    environment: tuple[tuple[str, str], ...]
    """Variables and their values, added to what cron or systemd sets."""
    output: Path
    """The file to which the program's output is appended; its folder exists when the program starts."""
    home: Path | None = None
    """Home or library of the job, by which two jobs of one name are told apart."""

    def __post_init__(self) -> None:
        for text in (*self.arguments, *(value for _, value in self.environment), str(self.output)):
            if _CONTROL.search(text):
                raise ScheduleError(
                    f"Job {self.name} cannot be scheduled: {text!r} holds a line break or another control character; "
                    "rename that folder."
                )

    @classmethod
    def of(
        cls, name: str, home_variable_value: Path, output: Path, library: Path | None = None, home: Path | None = None
    ) -> Self:
        """Make the command that runs a job as it would run here and now.

        Parameters
        ----------
        name
            The job.
        home_variable_value
            What ``$SEN2CHAIN_HOMEPATH`` is for the run: the folder that contains the home.
        output
            The file to which the output of the run is appended.
        library
            The archive, where it is not the home's.
        home
            Home or library of the job.

        Raises
        ------
        ScheduleError
            If a folder's name holds a control character.
        """
        # A link to an interpreter is what makes a virtual environment: it is not resolved.
        arguments = [sys.executable, "-P", "-m", "sen2chain.cli", "job", "run", name, "--quiet"]
        if library is not None:
            arguments += ["--library", str(absolute(library))]
        environment = [(HOME_VARIABLE, str(absolute(home_variable_value)))]
        environment += [(variable, os.environ[variable]) for variable in _PASSED_ON if os.environ.get(variable)]
        return cls(name, tuple(arguments), (*environment, ("PATH", search_path())), absolute(output), home)

    def as_crontab(self) -> str:
        """Return the command of a crontab line, with the marks by which the line is found again.

        The user's crontab may set SHELL, so the line has the same meaning in sh, csh and fish: one word in single
        quotes, for `sh`. Two backslashes are one in Debian's cron and two in others, and csh interprets ``!``
        everywhere, so `printf` writes both, see `_quoted`. The mark of the home is left out where the command would be
        too long with it.

        Raises
        ------
        ScheduleError
            If it is longer than cron accepts.
        """
        variables = [f"{variable}={_quoted(value)}" for variable, value in self.environment]
        program = " ".join(map(_quoted, self.arguments))
        # Not `env`, which takes a program below a folder "a=b" for one more variable.
        # Without the folder of logs, which may have been removed, nothing would run, and no message tell it.
        script = f'o={_quoted(str(self.output))}; mkdir -p "${{o%/*}}"; exec {program} >> "$o" 2>&1'
        if variables:
            script = f"export {' '.join(variables)}; {script}"
        shell = shutil.which("sh", path=os.defpath) or "sh"
        command = f"{shell} -c {shlex.quote(script)}".replace("%", r"\%")
        text = f"{command}{self.home_mark} {mark(self.name)}"
        if len(os.fsencode(text)) > _LONGEST:
            text = f"{command} {mark(self.name)}"
        if len(os.fsencode(text)) > _LONGEST:
            raise ScheduleError(
                f"Job {self.name} cannot be scheduled by cron, whose commands have at most {_LONGEST} bytes while this "
                f"one has {len(os.fsencode(text))}; use shorter folders, or --systemd (cron_enable(systemd=True))."
            )
        return text

    @property
    def home_mark(self) -> str:
        """The comment that names the home in a crontab line, with a space before it; empty without a home."""
        if self.home is None:
            return ""
        return f" # sen2chain_home_{quote(os.fsencode(self.home))}".replace("%", r"\%")

    def as_systemd(self) -> tuple[str, ...]:
        """Return the lines of a unit's ``[Service]``.

        Raises
        ------
        ScheduleError
            If a folder's name is not UTF-8, or systemd does not accept the path of the program or of the output.
        """
        output = str(self.output)
        for text in (*self.arguments, *(value for _, value in self.environment), output):
            if not text.isascii() and text != os.fsencode(text).decode("utf-8", "replace"):
                raise ScheduleError(
                    f"Job {self.name} cannot be scheduled by systemd: {text!r} is not UTF-8; rename that folder."
                )
        if re.search(r"[\"'\\]", self.arguments[0]):
            raise ScheduleError(
                f"Job {self.name} cannot be scheduled by systemd, which starts no program with a quote or a backslash "
                f"in its path, like {self.arguments[0]!r}; use cron."
            )
        if output != output.rstrip("\\ "):
            raise ScheduleError(
                f"Job {self.name} cannot be scheduled by systemd: its output {output!r} ends with a space or a "
                "backslash; rename it."
            )
        # With @ the program stands apart from its name, the first argument; only arguments know variables ($).
        words = [f"@{_unit_quoted(self.arguments[0])}"]
        words += [_unit_quoted(argument).replace("$", "$$") for argument in self.arguments]
        file = output.replace("%", "%%")
        return (
            *(f"Environment={_unit_quoted(f'{variable}={value}')}" for variable, value in self.environment),
            f"ExecStart={' '.join(words)}",
            f"StandardOutput=append:{file}",
            f"StandardError=append:{file}",
        )


def mark(name: str) -> str:
    """Return the comment that ends a job's line in a crontab, the same as the original program's."""
    return f"# sen2chain_job_{name}"


def _quoted(text: str) -> str:
    """Quote a word for `sh`, without a backslash before anything but a digit, and without ``!``."""
    if not text:
        return "''"
    return "".join(
        f"\"$(printf '\\{ord(piece):03o}')\"" if piece in {"\\", "!"} else shlex.quote(piece)
        for piece in re.split(r"([\\!])", text)
        if piece
    )


def _unit_quoted(text: str) -> str:
    """Quote a word for a line of a unit, in which ``%`` begins a specifier."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%") + '"'


def search_path() -> str:
    """Return the search path of a scheduled run: the folders of this Python, of ssh and rsync, and the usual ones."""
    found = [Path(sys.executable).parent]
    found += [Path(program).parent for program in map(shutil.which, ("ssh", "rsync")) if program]
    found += [Path("/usr", "local", "bin"), *map(Path, reversed(os.defpath.split(os.pathsep)))]
    # A folder with a colon in its name cannot stand in PATH.
    return os.pathsep.join(dict.fromkeys(str(absolute(folder)) for folder in found if os.pathsep not in str(folder)))
