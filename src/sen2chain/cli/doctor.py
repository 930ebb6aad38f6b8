"""`sen2chain doctor`: what a bug report needs, and whether this installation can work."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from sen2chain.cli import options as shared
from sen2chain.cli.click_command import Command, fail
from sen2chain.cli.codes import EXIT_UNUSABLE
from sen2chain.progress import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

_EXAMPLES = """
\b
Examples:
  sen2chain doctor
  sen2chain doctor --library archive
  sen2chain doctor --json > doctor.json

\b
Exit codes: 0 everything that is needed works, 6 something cannot be used; one sentence for each says what to do.
"""


@click.command(cls=Command, epilog=_EXAMPLES)
@shared.library
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with a few more facts.")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def doctor(library: str | None, *, as_json: bool, **_: Any) -> None:
    """Print what a bug report needs: versions, libraries, machine, folders and settings.

    Each library is imported and tried, and each folder is written to; nothing is left behind. Passwords and tokens are
    not shown, but paths are: read it before you send it.
    """
    from sen2chain.cli.diagnosis import diagnose

    facts = diagnose(library)
    if as_json:
        click.echo(json.dumps(facts, indent=2))
    else:
        for line in _lines(facts):
            click.echo(printable(line))
    if facts["unusable"]:
        fail(" ".join(facts["unusable"]), EXIT_UNUSABLE)


def _lines(facts: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of the report. It needs no library, as any of them may be broken."""
    program, machine = facts["sen2chain"], facts["machine"]
    memory = f"{machine['memory'] / 2**30:.1f} GB" if machine["memory"] else "unknown"
    yield from _section(
        f"sen2chain {program['version']}",
        {
            "folder": program["folder"],
            "Python": f"{program['python']}, {program['executable']}",
            "system": program["system"],
            "processors": f"{machine['processors']}",
            "memory": memory,
        },
    )
    libraries = {name: _library(found) for name, found in facts["libraries"].items()}
    yield from _section("libraries", libraries | {"OpenJPEG": _openjpeg(facts["openjpeg"])})
    if facts["extras"]:
        yield from _section("extras", {name: _extra(name, found) for name, found in sorted(facts["extras"].items())})
    yield from _section("folders", {name: _folder(found) for name, found in facts["folders"].items()})
    yield from _section("environment", facts["environment"] or {"-": ""})
    if facts["remarks"]:
        yield ""
        yield from (f"! {remark}" for remark in facts["remarks"])


def _section(title: str, rows: dict[str, str]) -> Iterator[str]:
    yield from ("", title) if not title.startswith("sen2chain") else (title,)
    width = max(map(len, rows))
    yield from (f"  {name:{width}}  {text}".rstrip() for name, text in rows.items())


def _library(found: dict[str, Any]) -> str:
    parts = [found.get("version", "-")]
    parts += [f"{title} {found[key]}" for key, title in (("gdal", "GDAL"), ("proj", "PROJ")) if key in found]
    if "llvmlite" in found:
        parts.append(f"llvmlite {found['llvmlite']}")
    if "grids" in found:
        network = "on" if found["network"] else "off"
        parts.append(f"{found['grids']} grids, network {network}, data in {found['data']}")
    return ", ".join(parts) + (f"  CANNOT BE USED: {found['error']}" if "error" in found else "")


def _extra(name: str, found: dict[str, str]) -> str:
    """Return the versions of an extra's libraries, or what is missing and how to install it."""
    missing = [library for library, version in found.items() if not version]
    if missing:
        return f'not complete, {", ".join(missing)} missing: pip install "sen2chain[{name}]"'
    return ", ".join(f"{library} {version}" for library, version in found.items())


def _openjpeg(found: dict[str, Any]) -> str:
    text = (
        f"{found['version']}, from {found['origin']}: {found['path']}"
        if "version" in found
        else f"not used: {found.get('unused') or found.get('error')}"
    )
    over = found.get("passed_over", []) if "version" in found else []
    return "; ".join([text, *(f"passed over: {one}" for one in over)])


def _folder(found: dict[str, Any]) -> str:
    if "path" not in found:
        return f"- ({found['reason']})"
    there = "" if found["exists"] else "does not exist, "
    can = "can be written" if found["exists"] else "can be created"
    able = can if found["writable"] else f"{can.replace('can', 'cannot')} ({found['reason']})"
    return f"{found['path']} ({there}{able})"
