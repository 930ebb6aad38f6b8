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
"""Bytes of a command, as long as Debian's `crontab` takes it: it says "command too long" to 999."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class JobCommand:
    """A program with its arguments and variables.

    Raises
    ------
    ScheduleError
        If a text in it holds a line break or another control character, which neither crontab nor unit can say.
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
        """Write it as the command of a crontab line, with the mark by which the line is found again.

        The user's crontab may set SHELL to anything, so that the line must mean the same to sh, csh and fish: one word
        in single quotes, for `sh`. Nor does every cron treat two backslashes alike (Debian's makes them one, others do
        not), and csh looks for ``!`` everywhere: both are spelled by `printf`, see `_quoted`.

        Raises
        ------
        ScheduleError
            If it is longer than cron takes.
        """
        variables = [f"{variable}={_quoted(value)}" for variable, value in self.environment]
        program = " ".join(map(_quoted, self.arguments))
        # Not `env`, which takes a program below a folder "a=b" for one more variable.
        # Somebody may have tidied the folder of logs away, and then nothing would run, without a word.
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
        """The remark that names the home in a crontab line, with a space before it; empty without a home."""
        if self.home is None:
            return ""
        return f" # sen2chain_home_{quote(os.fsencode(self.home))}".replace("%", r"\%")

    def as_systemd(self) -> tuple[str, ...]:
        """Write it as lines of a unit's ``[Service]``.

        Raises
        ------
        ScheduleError
            If a folder's name is not UTF-8, or the program or the output has one that systemd does not take.
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
    """Return the remark that ends a job's line in a crontab, the same as the original program's."""
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
    """Quote a word as a unit's line wants it, where ``%`` begins a specifier."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%") + '"'


def search_path() -> str:
    """Return where programs are looked for: beside this Python, where ssh and rsync are now, and the usual places."""
    found = [Path(sys.executable).parent]
    found += [Path(program).parent for program in map(shutil.which, ("ssh", "rsync")) if program]
    found += [Path("/usr", "local", "bin"), *map(Path, reversed(os.defpath.split(os.pathsep)))]
    # A folder with a colon in its name cannot stand in PATH.
    return os.pathsep.join(dict.fromkeys(str(absolute(folder)) for folder in found if os.pathsep not in str(folder)))
