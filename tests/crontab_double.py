"""Stand-ins for `crontab` and `systemctl`, which keep to one folder and tell what they were asked."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

_CRONTAB = """#!/bin/sh
here="${0%/*}"
echo "$*" >> "$here/asked"
case "$1" in
-l)
    if [ -f "$here/hanging" ]; then exec sleep 60; fi
    if [ -f "$here/unreadable" ]; then cat "$here/unreadable" >&2; exit 1; fi
    if [ -f "$here/table" ]; then exec cat "$here/table"; fi
    echo "no crontab for somebody" >&2; exit 1 ;;
-)
    if [ -f "$here/refusal" ]; then cat "$here/refusal" >&2; exit 1; fi
    if [ -f "$here/slow" ]; then sleep 0.02; fi
    cat > "$here/new"
    if [ -f "$here/forgetful" ]; then exit 0; fi
    mv "$here/new" "$here/table" ;;
*)
    exit 2 ;;
esac
"""

_SYSTEMCTL = """#!/bin/sh
here="${0%/*}"
echo "$*" >> "$here/asked-systemctl"
if [ -f "$here/no-bus" ]; then echo "Failed to connect to bus: No medium found" >&2; exit 1; fi
"""


class Machine:
    """A folder in front of PATH with both programs.

    Files switch them: `unreadable` and `refusal` hold what `crontab` says when it does not read or write, `forgetful`
    lets it lose what it is given, `slow` lets it dawdle, `hanging` keeps it from answering; `no-bus` leaves `systemctl`
    without a systemd.
    """

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        folder.mkdir()
        for name, text in (("crontab", _CRONTAB), ("systemctl", _SYSTEMCTL)):
            (folder / name).write_text(text, encoding="ascii")
            (folder / name).chmod(0o755)
        # No other place: what is not here is not installed.
        for tool in ("cat", "mv", "sleep"):
            (folder / tool).symlink_to(next(p for p in (Path("/bin", tool), Path("/usr/bin", tool)) if p.exists()))
        monkeypatch.setenv("PATH", str(folder))

    def switch(self, name: str, text: str = "") -> None:
        (self.folder / name).write_text(text, encoding="utf-8")

    @property
    def table(self) -> bytes | None:
        file = self.folder / "table"
        return file.read_bytes() if file.exists() else None

    @table.setter
    def table(self, content: bytes | None) -> None:
        if content is None:
            (self.folder / "table").unlink(missing_ok=True)
        else:
            (self.folder / "table").write_bytes(content)

    def asked(self, program: str = "crontab") -> list[str]:
        """Return what a program was asked since the last time."""
        file = self.folder / ("asked" if program == "crontab" else f"asked-{program}")
        lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
        file.unlink(missing_ok=True)
        return lines
