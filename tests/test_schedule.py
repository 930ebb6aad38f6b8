"""When jobs run: timings beside an oracle, systemd and cron's own check; the crontab byte for byte; nasty folders."""

from __future__ import annotations

import calendar
import json
import os
import re
import shutil
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import filelock
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crontab_double import Machine
from sen2chain.errors import RequestError, ScheduleError
from sen2chain.jobs.job_location import JobLocation
from sen2chain.jobs.schedule import AllSchedules, JobCommand, JobSchedule, Timing, crontab, scheduler, systemd
from sen2chain.jobs.schedule.job_command import mark

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sen2chain.jobs.schedule.schedule_entry import ScheduleEntry

DAILY = Timing.parse("0 3 * * *")
NASTY = "a b\\%c'd\"e %%$(touch x)`y`;f\\\\%g\\'h!i$HOME#*?~{j,k}&|<>^\\"
MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
WEEKDAYS = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]


def in_zone(monkeypatch: pytest.MonkeyPatch, zone: str) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()


@pytest.fixture(autouse=True)
def _zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let every test begin in UTC and the next one in the machine's zone."""
    before = os.environ.get("TZ")
    in_zone(monkeypatch, "UTC")
    yield
    monkeypatch.undo()
    assert os.environ.get("TZ") == before
    time.tzset()


def installed(program: str) -> str:
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"{program} is not installed")
    return found


def run(*words: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 - programs of the system
        words, capture_output=True, text=True, check=False, env={**os.environ, "LC_ALL": "C", **environment}, timeout=60
    )


# ---------------------------------------------------------------------------------------------------------- timing

ACCEPTED = {
    "0 3 * * *": "0 3 * * *",
    "  0\t3  * * * ": "0 3 * * *",
    "*/15 0-6,22,23 1-31/2 JAN-mar,12 Mon-FRI": "*/15 0-6,22,23 1-31/2 jan-mar,12 mon-fri",
    "00 00 01 01 00": "00 00 01 01 00",
    "*/70 * * * *": "*/70 * * * *",
    "1-5/100 5-5 * * *": "1-5/100 5-5 * * *",
    "5,* *,5 * 1-mar mon-5": "5,* *,5 * 1-mar mon-5",
    "0 0 * * 7": "0 0 * * 7",
    "0 0 * * 5-7": "0 0 * * 5-7",
    "0 0 29 2 *": "0 0 29 2 *",
    "0 0 29 2 */3": "0 0 29 2 */3",
    "0 0 30 2 mon": "0 0 30 2 mon",
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    " @monthly ": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}

REFUSED = {
    "0 25 * * *": "the hour 25 is not from 0 to 23",
    "60 * * * *": "the minute 60 is not from 0 to 59",
    "0 0 0 * *": "the day of the month 0 is not from 1 to 31",
    "0 0 1,32 * *": "the day of the month 32 is not from 1 to 31",
    "0 0 * 13 *": "the month 13 is not from 1 to 12 or jan to dec",
    "0 0 * january *": "the month january is not from 1 to 12 or jan to dec",
    "0 0 * * 8": "the day of the week 8 is not from 0 to 7 or sun to sat",
    "0 0 * mon *": "the month mon is not",
    "jan * * * *": "the minute jan is not",
    "4294967297 * * * *": "the minute 4294967297 is not",
    "9" * 5000 + " * * * *": "is not from 0 to 59",
    "5/10 * * * *": "the minute 5/10 has a step without a range; write 5-59/10",
    "*/0 * * * *": "the step 0 of the minute */0 is not from 1 to 999",
    "*/4294967296 * * * *": "the step 4294967296",
    "*/ * * * *": "the minute '*/' is not a *, number, range or step",
    ", * * * *": "the minute '' is not a",
    "1,,2 * * * *": "the minute '' is not a",
    "1, * * * *": "the minute '' is not a",
    "1- * * * *": "the minute '1-' is not a",
    "1-5-7 * * * *": "the minute '1-5-7' is not a",
    "*-5 * * * *": "the minute '*-5' is not a",
    "+1 * * * *": "the minute '+1' is not a",
    "*/-5 * * * *": "is not a",
    "1~5 * * * *": "is not a",
    "% * * * *": "the minute '%' is not a",
    "0 0 L * *": "the day of the month l is not",
    "0 0 ? * *": "the day of the month '?' is not a",
    "0 0 1W * *": "the day of the month 1w is not",
    "0 0 * * mon#2": "the day of the week 'mon#2' is not a",
    "0 0 * * fri-sun": "the day of the week fri-sun runs backwards, from 5 to 0",
    "30-10 * * * *": "the minute 30-10 runs backwards",
    "0 0 30 2 *": "no month that it names has such a day",
    "0 0 31 2,4,jun *": "no month that it names has such a day",
    "0 0 30 2 */2": "no month that it names has such a day",
    "@reboot": "@reboot does not say when",
    "@Daily": "only @hourly, @daily",
    "@every 5": "only @hourly, @daily",
    "* * * *": "it has 4 fields, not five (minute, hour",
    "0 0 * * * *": "it has 6 fields",
    "daily": "it has 1 field, not five",
    "": "it has 0 fields",
    "0 0 * * *\n* * * * *": "characters that cron does not know",
    "0 0 * * *\n": "characters that cron does not know",
    "0 0 * *\x0b*": "characters that cron does not know",
    "0\xa00 * * *": "characters that cron does not know",
    "\u0661 * * * *": "characters that cron does not know",
}


@pytest.mark.parametrize("text", ACCEPTED)
def test_a_timing_is_what_cron_reads(text: str) -> None:
    timing = Timing.parse(text)
    assert timing.text == ACCEPTED[text]
    assert Timing.parse(timing.text) == timing


@pytest.mark.parametrize("text", REFUSED, ids=lambda text: ascii(text)[:30])
def test_a_timing_that_cannot_be_used_says_why(text: str) -> None:
    with pytest.raises(ScheduleError) as error:
        Timing.parse(text)
    assert REFUSED[text] in str(error.value)
    assert str(error.value).startswith(f"timing {text!r} cannot be used: ")
    assert str(error.value).endswith(".")
    assert "\n" not in str(error.value)


def test_the_whole_message() -> None:
    with pytest.raises(ScheduleError) as error:
        Timing.parse("0 25 * * *")
    assert str(error.value) == "timing '0 25 * * *' cannot be used: the hour 25 is not from 0 to 23."


@st.composite
def part(draw: st.DrawFn, first: int, last: int, names: list[str]) -> str:
    kind = draw(st.sampled_from(["*", "*/", "number", "number", "range", "range/"]))
    step = draw(st.integers(1, 20))
    if kind.startswith("*"):
        return "*" if kind == "*" else f"*/{step}"
    low, high = sorted(draw(st.tuples(st.integers(first, last), st.integers(first, last))))

    def shown(number: int) -> str:
        name = names[number - first] if names and number - first < len(names) else str(number)
        return name if draw(st.booleans()) else str(number)

    if kind == "number":
        return shown(low)
    return f"{shown(low)}-{shown(high)}" + (f"/{step}" if kind == "range/" else "")


def field(first: int, last: int, names: list[str] | None = None) -> st.SearchStrategy[str]:
    return st.lists(part(first, last, names or []), min_size=1, max_size=3).map(",".join)


TIMINGS = st.tuples(
    field(0, 59),
    field(0, 23) | st.just("*"),
    field(1, 31) | st.just("*"),
    field(1, 12, MONTHS) | st.just("*"),
    field(0, 7, WEEKDAYS) | st.just("*"),
)


def oracle_set(text: str, first: int, last: int, names: list[str]) -> set[int]:
    """Expand a valid field by the words of cron's manual."""
    found: set[int] = set()
    for piece in text.split(","):
        span, _, step = piece.partition("/")
        for number, name in enumerate(names, first):
            span = span.replace(name, str(number))
        low, _, high = (f"{first}-{last}" if span == "*" else span).partition("-")
        found |= set(range(int(low), int(high or low) + 1, int(step or 1)))
    return found


def oracle_matches(text: str) -> tuple[set[int], set[int], set[int], set[int], set[int], bool]:
    minute, hour, day, month, week = text.split()
    return (
        oracle_set(minute, 0, 59, []),
        oracle_set(hour, 0, 23, []),
        oracle_set(day, 1, 31, []),
        oracle_set(month, 1, 12, MONTHS),
        {number % 7 for number in oracle_set(week, 0, 7, WEEKDAYS)},
        day.startswith("*") or week.startswith("*"),
    )


def oracle_runs(text: str, after: datetime, minutes: int) -> list[datetime]:
    """Return the runs of a horizon, looking at every minute of the local clock."""
    minute, hour, day, month, week, both = oracle_matches(text)
    moment, found = after.astimezone(UTC).replace(second=0, microsecond=0), []
    for _ in range(minutes):
        moment += timedelta(minutes=1)
        local = moment.astimezone()
        of_month, of_week = local.day in day, local.isoweekday() % 7 in week
        if (
            local.minute in minute
            and local.hour in hour
            and local.month in month
            and ((of_month and of_week) if both else (of_month or of_week))
        ):
            found.append(moment)
    return found


@settings(deadline=None, max_examples=150)
@given(
    fields=TIMINGS,
    start=st.datetimes(datetime(2023, 1, 1), datetime(2029, 1, 1))  # noqa: DTZ001 - hypothesis wants them so
    | st.integers(2023, 2028).map(lambda year: datetime(year, 2, 28, 12, 0, 30)),  # noqa: DTZ001
)
def test_next_run_agrees_with_looking_at_every_minute(fields: tuple[str, ...], start: datetime) -> None:
    text, minutes = " ".join(fields), 2 * 24 * 60
    try:
        timing = Timing.parse(text)
    except ScheduleError:
        *_, days, months, _week, _both = oracle_matches(text)
        assert all(min(days) > calendar.monthrange(2024, month)[1] for month in months)
        return
    after = start.replace(tzinfo=UTC)
    wanted = oracle_runs(text, after, minutes)
    found = timing.next_run(after)
    if wanted:
        assert found == wanted[0]
    else:
        assert found > after + timedelta(minutes=minutes - 1)


def test_next_run_is_after_now_and_local(monkeypatch: pytest.MonkeyPatch) -> None:
    in_zone(monkeypatch, "XXX-5:30")
    found = Timing.parse("* * * * *").next_run()
    assert timedelta() < found - datetime.now(UTC) <= timedelta(minutes=1)
    assert found.utcoffset() == timedelta(hours=5, minutes=30)
    naive = datetime(2026, 1, 1, 2, 59, 59)  # noqa: DTZ001 - local time, as people type it
    assert DAILY.next_run(naive).isoformat() == "2026-01-01T03:00:00+05:30"
    assert DAILY.next_run(datetime(2026, 1, 1, 3, tzinfo=UTC)).isoformat() == "2026-01-02T03:00:00+05:30"


@pytest.mark.parametrize("zone", ["Europe/Rome", "CET-1CEST,M3.5.0,M10.5.0/3"])
@pytest.mark.parametrize(
    ("text", "after", "wanted"),
    [
        # A fixed time in the hour that is missing comes at its end, as Debian's cron does it; the day after as ever.
        ("30 2 * * *", "2026-03-29T00:00+01:00", "2026-03-29T03:00:00+02:00"),
        ("30 2 * * *", "2026-03-29T03:00+02:00", "2026-03-30T02:30:00+02:00"),
        # In the hour that comes twice it comes once.
        ("30 2 * * *", "2026-10-25T00:00+02:00", "2026-10-25T02:30:00+02:00"),
        ("30 2 * * *", "2026-10-25T02:30+02:00", "2026-10-26T02:30:00+01:00"),
        ("30 2 * * *", "2026-10-25T02:15+01:00", "2026-10-26T02:30:00+01:00"),
        ("0 4 * * *", "2026-03-29T00:00+01:00", "2026-03-29T04:00:00+02:00"),
        ("0 4 * * *", "2026-10-25T02:59+02:00", "2026-10-25T04:00:00+01:00"),
        # What follows the clock skips the one and comes twice in the other.
        ("*/30 2 * * *", "2026-03-29T00:00+01:00", "2026-03-30T02:00:00+02:00"),
        ("*/30 2 * * *", "2026-10-25T02:30+02:00", "2026-10-25T02:00:00+01:00"),
        ("0 * * * *", "2026-03-29T01:00+01:00", "2026-03-29T03:00:00+02:00"),
        ("0 * * * *", "2026-10-25T02:00+02:00", "2026-10-25T02:00:00+01:00"),
    ],
)
def test_clock_changes(monkeypatch: pytest.MonkeyPatch, zone: str, text: str, after: str, wanted: str) -> None:
    in_zone(monkeypatch, zone)
    if time.tzname[0] != "CET":
        pytest.skip("this machine has no table of time zones")
    assert Timing.parse(text).next_run(datetime.fromisoformat(after)).isoformat() == wanted


def test_a_midnight_that_never_was(monkeypatch: pytest.MonkeyPatch) -> None:
    in_zone(monkeypatch, "EET-2EEST,M3.5.0/0,M10.5.0/0")
    before = datetime(2026, 3, 20, tzinfo=UTC)
    assert Timing.parse("*/10 0 29 3 *").next_run(before).isoformat() == "2027-03-29T00:00:00+03:00"
    assert Timing.parse("0 0 29 3 *").next_run(before).isoformat() == "2026-03-29T01:00:00+03:00"


@pytest.mark.parametrize(
    "zone", ["CET-1CEST,M3.5.0,M10.5.0/3", "EET-2EEST,M3.5.0/0,M10.5.0/0", "A-10B-10:30,M10.1.0,M4.1.0"]
)
@pytest.mark.parametrize("text", ["*/20 * * * *", "*/15 0,1,2 * * *", "7 * * * *", "*/10 0 * * *"])
def test_jobs_that_follow_the_clock_agree_with_looking_at_every_minute(
    monkeypatch: pytest.MonkeyPatch, zone: str, text: str
) -> None:
    in_zone(monkeypatch, zone)
    for month, day in ((3, 28), (4, 4), (10, 3), (10, 24)):
        begin = datetime(2026, month, day, 20, tzinfo=UTC) - timedelta(hours=12)
        wanted = oracle_runs(text, begin, 60 * 60)
        assert wanted
        found, moment = [], begin
        for _ in wanted:
            moment = Timing.parse(text).next_run(moment)
            found.append(moment)
        assert found == wanted


@pytest.mark.parametrize(
    "text",
    [
        "*/20 * * * *",
        "0 0 13 * fri",
        "5,35 1-23/7 * jan-mar mon-fri",
        "0 12 */10 * sun",
        "0 0 29 2 *",
        "0 0 31 * *",
        "0 0 30 2 mon",
        "59 23 1 1 *",
        "0 6 * * 5-7",
    ],
)
def test_systemd_means_the_same(text: str) -> None:
    timing = Timing.parse(text)
    expressions = timing.on_calendar()
    assert len(expressions) == (2 if text in {"0 0 13 * fri", "0 0 30 2 mon"} else 1)
    base = datetime(2026, 2, 12, 23, 30, tzinfo=UTC)
    analyze = installed("systemd-analyze")
    done = run(analyze, "calendar", f"--base-time={base:%Y-%m-%d %H:%M:%S}", "--iterations=4", *expressions, TZ="UTC")
    if done.returncode and "unrecognized option" in done.stderr:
        pytest.skip("this systemd-analyze has no --base-time")
    assert done.returncode == 0, done.stderr
    told = {datetime.fromisoformat(f"{when}+00:00") for when in re.findall(r"\w+ (\d{4}-\S+ \S+) UTC", done.stdout)}
    moment = base
    for wanted in sorted(told)[:4]:
        moment = timing.next_run(moment)
        assert moment == wanted
    assert len(told) >= 4


def test_crontab_itself_takes_what_is_taken_here(tmp_path: Path) -> None:
    program, good, bad = installed("crontab"), tmp_path / "good", tmp_path / "bad"
    good.write_text("0 0 * * * true\n", encoding="ascii")
    bad.write_text("0 25 * * * true\n", encoding="ascii")
    # Debian's word for "only look" is -n, cronie's and Debian's next one is -T.
    looks = [f for f in ("-n", "-T") if run(program, f, good).returncode == 0 and run(program, f, bad).returncode]
    if not looks:
        pytest.skip("this crontab cannot look at a file without installing it")
    good.write_text("".join(f"{text} true\n" for text in {*ACCEPTED, *ACCEPTED.values()}), encoding="ascii")
    done = run(program, looks[0], good)
    assert done.returncode == 0, done.stderr


# ------------------------------------------------------------------------------------------------------- the command

SAY = "import json,os,sys; print(json.dumps([sys.argv[1:], os.environ.get('WORD'), os.environ.get('TWO')]))"


def saying(output: Path, *words: str, program: str = sys.executable, word: str = "x") -> JobCommand:
    """Make a command that says what arrived."""
    return JobCommand(
        "A", (program, "-I", "-S", "-c", SAY, *words), (("WORD", word), ("TWO", "2")), output
    )  # fmt: skip


def by_cron(text: str, *, joins_backslashes: bool) -> str:
    """Do to a command what cron does before it hands it to a shell.

    Debian's cron makes one backslash of two, and others leave them; both take ``\\%`` for ``%``.
    """
    escaped = r"\\([\\%])" if joins_backslashes else r"\\(%)"
    assert not re.search(r"(?<!\\)(?:\\\\)*%", text), "the rest would be the program's input"
    return re.sub(escaped, r"\1", text)


@pytest.mark.parametrize("shell", ["sh", "dash", "bash", "zsh", "csh", "tcsh", "fish"])
def test_exactly_what_was_meant_arrives_from_a_crontab(shell: str, tmp_path: Path) -> None:
    program = installed(shell)
    folder = tmp_path / NASTY
    folder.mkdir()
    python = folder / "a=b python"
    python.symlink_to(Path(sys.executable).resolve())
    words = ("plain", "", NASTY, "\\", "\\\\", "%", "\\%", "\\\\%", "'", "\\'", "!", "-n", "é ä", "~", "\t")[:-1]
    command = saying(folder / "out\\", *words, program=str(python), word=NASTY)
    # What a shell's own limit allows; the length that cron allows has its test.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sen2chain.jobs.schedule.job_command._LONGEST", 1 << 16)
        text = command.as_crontab()
    for joins in (True, False):
        done = subprocess.run(  # noqa: S603 - a shell of the system
            [program, "-c", by_cron(text, joins_backslashes=joins)],
            cwd=tmp_path, capture_output=True, check=False, stdin=subprocess.DEVNULL,
            env={"PATH": os.defpath, "HOME": str(tmp_path), "LC_ALL": "C.UTF-8"},
        )  # fmt: skip
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    lines = (folder / "out\\").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == [[list(words), NASTY, "2"]] * 2
    assert {path.name for path in tmp_path.iterdir()} <= {folder.name, ".config", ".local", ".cache"}


@settings(deadline=None, max_examples=25)
@given(
    word=st.text(
        st.sampled_from("ab/ \\%'\"!$`;#=~*") | st.characters(min_codepoint=32, exclude_categories=["C"]),
        max_size=40,  # a longer command has no room in a crontab
    )
)
def test_any_word_arrives_from_a_crontab(word: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    output = tmp_path_factory.getbasetemp() / "any word"
    output.unlink(missing_ok=True)
    text = saying(output, word, word=word).as_crontab()
    for joins in (True, False):
        done = run("sh", "-c", by_cron(text, joins_backslashes=joins), LC_ALL="C.UTF-8")
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()] == [[[word], word, "2"]] * 2


def test_the_command_of_a_job(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    bin_folder = tmp_path / "tools"
    bin_folder.mkdir()
    (bin_folder / "rsync").write_text("#!/bin/sh\n", encoding="ascii")
    (bin_folder / "rsync").chmod(0o755)
    monkeypatch.setenv("PATH", str(bin_folder))
    monkeypatch.setenv("SEN2CHAIN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("RSYNC_RSH", "ssh -p 22")
    monkeypatch.setenv("SECRET", "never")
    monkeypatch.chdir(tmp_path)
    command = JobCommand.of("A.b-c", tmp_path, Path("logs") / "out", Path("lib rary"))
    assert command.arguments == (
        sys.executable, "-P", "-m", "sen2chain.cli", "job", "run", "A.b-c", "--quiet",
        "--library", str(tmp_path / "lib rary"),
    )  # fmt: skip
    variables = dict(command.environment)
    path = variables.pop("PATH").split(":")
    assert variables == {
        "SEN2CHAIN_HOMEPATH": str(tmp_path),
        "SEN2CHAIN_CACHE": str(tmp_path / "cache"),
        "RSYNC_RSH": "ssh -p 22",
    }
    assert path == [str(Path(sys.executable).parent), str(bin_folder), "/usr/local/bin", "/usr/bin", "/bin"]
    assert command.output == tmp_path / "logs" / "out"
    assert " job run A.b-c --quiet --library " in command.as_crontab()
    assert command.as_crontab().endswith(" 2>&1' # sen2chain_job_A.b-c")
    monkeypatch.delenv("SEN2CHAIN_CACHE")
    monkeypatch.delenv("RSYNC_RSH")
    command = JobCommand.of("A", tmp_path, tmp_path / "out")
    assert [variable for variable, _ in command.environment] == ["SEN2CHAIN_HOMEPATH", "PATH"]
    assert command.arguments[-1] == "--quiet"


def test_a_command_without_variables(tmp_path: Path) -> None:
    command = JobCommand("A", (sys.executable, "-c", "print(1)"), (), tmp_path / "out")
    assert run("sh", "-c", by_cron(command.as_crontab(), joins_backslashes=True)).stdout == ""
    assert command.output.read_text(encoding="utf-8") == "1\n"
    assert command.as_systemd()[0].startswith("ExecStart=")


@pytest.mark.parametrize("bad", ["a\nb", "a\0b", "a\rb", "a\x1bb"])
def test_control_characters_are_refused(bad: str, tmp_path: Path) -> None:
    good, bad_folder = tmp_path / "out", tmp_path / bad
    for home, output, library in ((bad_folder, good, None), (good, bad_folder, None), (good, good, bad_folder)):
        # A null character is refused wherever a path is given.
        with pytest.raises(
            (ScheduleError, RequestError), match=r"cannot be scheduled: .* holds a line break|null character"
        ):
            JobCommand.of("A", home, output, library)


def test_a_command_that_is_too_long_for_cron(tmp_path: Path) -> None:
    short = len(os.fsencode(saying(tmp_path / "o", "x").as_crontab())) - 1
    assert saying(tmp_path / "o", "x" * (998 - short)).as_crontab()
    for word in ("x" * (999 - short), "é" * ((998 - short) // 2)):  # letters outside ASCII count as their bytes
        with pytest.raises(ScheduleError, match=r"at most 998 bytes while this one has [0-9]+; use shorter"):
            saying(tmp_path / "o", word).as_crontab()


def test_crontab_itself_has_that_limit(tmp_path: Path) -> None:
    program, file = installed("crontab"), tmp_path / "table"
    found = {}
    for length in (998, 999):
        file.write_text("0 0 * * * " + "x" * length + "\n", encoding="ascii")
        found[length] = run(program, "-n", file)
    if "too long" not in found[999].stderr:
        pytest.skip("this crontab is not Debian's")
    assert found[998].returncode == 0
    assert found[999].returncode


# ----------------------------------------------------------------------------------------------------------- crontab


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    monkeypatch.setenv("SEN2CHAIN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return Machine(tmp_path / "bin", monkeypatch)


def job(name: str = "A", home: Path = Path("/home/x")) -> JobCommand:
    return JobCommand.of(name, home, Path(os.environ["SEN2CHAIN_CACHE"]).parent / "out")


def found(name: str) -> list[ScheduleEntry]:
    return [entry for entry in (*systemd.entries(), *crontab.entries()) if entry.name == name]


def status(name: str) -> str:
    return ("enabled" if found(name)[0].enabled else "disabled") if found(name) else "absent"


def timing_of(name: str) -> str | None:
    return found(name)[0].timing if found(name) else None


def ours(command: JobCommand, timing: Timing = DAILY) -> bytes:
    return os.fsencode(f"{timing.text} {command.as_crontab()}\n")


ORIGINAL = b"0 5 * * 1 /usr/bin/python3 /home/x/sen2chain_data/config/jobs/jobextraction_A.py # sen2chain_job_A\n"
LOOKALIKES = (
    b"# see sen2chain_job_A",
    b"0 1 * * * echo x # sen2chain_job_A",
    b"0 1 * * * python -m sen2chain.cli job run A --quiet # my own",
    b"0 1 * * * python -m sen2chain.cli job run A --quiet # sen2chain_job_A.",
    b"0 1 * * * python -m sen2chain.cli job run A --quiet # sen2chain_job_AB",
    b"0 1 * * * python -m sen2chain.cli job run AB --quiet # sen2chain_job_A",
    b"0 1 * * * python -m sen2chain.cli job run A.B --quiet # sen2chain_job_A.B",
    b"# we now use this: python -m sen2chain.cli job run A --quiet # sen2chain_job_A",
    b"X=1 * * * * python -m sen2chain.cli job run A --quiet # sen2chain_job_A",
    b"0 1 * * python -m sen2chain.cli job run A --quiet # sen2chain_job_B",
    b"0 5 * * 1 /usr/bin/python3 /x/jobextraction_AB.py # sen2chain_job_A",
    b"0 5 * * 1 /usr/bin/python3 /x/my_jobextraction_A.py # sen2chain_job_A",
    b"0 5 * * 1 /usr/bin/python3 /x/jobextraction_A.py",
    b"# note\r0 1 * * * python -m sen2chain.cli job run A --quiet # sen2chain_job_A",
    b"SHELL=/bin/csh",
    b"0 1 * * *\techo  \xe4\xff\r",
    b"\r\r",
    b"",
    b"  \t ",
)


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lines=st.lists(
        st.sampled_from(LOOKALIKES) | st.binary(max_size=20).map(lambda b: b.replace(b"\n", b"")), max_size=6
    ),
    ends=st.booleans(),
    deeds=st.lists(st.sampled_from(["enable", "enable later", "disable", "remove"]), max_size=5),
)
def test_every_other_line_stays_byte_for_byte(
    machine: Machine, lines: list[bytes], *, ends: bool, deeds: list[str]
) -> None:
    others = b"\n".join(lines) + (b"\n" if ends else b"")
    machine.table = others
    later, state, timing = Timing.parse("30 4 * * *"), "absent", DAILY
    for deed in deeds:
        if deed.startswith("enable"):
            timing = later if deed == "enable later" else DAILY
            crontab.enable(timing, job())
            if others and not others.endswith(b"\n"):
                others += b"\n"
            state = "enabled"
        elif deed == "remove":
            assert ("nothing" in crontab.remove("A")) == (state == "absent")
            state = "absent"
        elif state == "absent":
            with pytest.raises(ScheduleError, match="Job A is not in the crontab; there is nothing to disable"):
                crontab.disable("A")
        else:
            assert ("already" in crontab.disable("A")) == (state == "disabled")
            state = "disabled"
        line = {"absent": b"", "enabled": ours(job(), timing), "disabled": b"# " + ours(job(), timing)}[state]
        assert machine.table == others + line
        assert status("A") == state
        assert timing_of("A") == (None if state == "absent" else timing.text)


def test_a_line_is_replaced_where_it_stands(machine: Machine) -> None:
    machine.table = b"first\n# 1" + ORIGINAL + b"middle\n" + ORIGINAL + b"last"
    assert status("A") == "enabled"
    assert timing_of("A") == "0 5 * * 1"
    said = crontab.enable(DAILY, job())
    assert re.fullmatch(r"Job A is started by cron at '0 3 \* \* \*', next on \d{4}-\d\d-\d\d at 03:00\.", said)
    assert machine.table == b"first\n" + ours(job()) + b"middle\nlast"


@pytest.mark.parametrize(
    ("line", "timing", "state"),
    [
        (ORIGINAL, "0 5 * * 1", "enabled"),
        (ORIGINAL.rstrip(b"\n"), "0 5 * * 1", "enabled"),
        (ORIGINAL.replace(b"\n", b" \t\r\n"), "0 5 * * 1", "enabled"),
        (b"#" + ORIGINAL, "0 5 * * 1", "disabled"),
        (b"# " + ORIGINAL, "0 5 * * 1", "disabled"),
        (b"  0  5\t*/2 JAN 1  python jobextraction_A.py  # sen2chain_job_A\n", "0 5 */2 JAN 1", "enabled"),
        (b"@daily python -m sen2chain.cli job run A --quiet # sen2chain_job_A\n", "@daily", "enabled"),
        (b"# @daily python -m sen2chain.cli job run 'A' --quiet # sen2chain_job_A\n", "@daily", "disabled"),
    ],
)
def test_lines_that_are_a_jobs(machine: Machine, line: bytes, timing: str, state: str) -> None:
    machine.table = b"x\n" + line
    assert (status("A"), timing_of("A")) == (state, timing)
    assert status("B") == "absent"
    crontab.enable(DAILY, job())
    assert machine.table == b"x\n" + ours(job())
    machine.table = b"x\n" + line
    crontab.remove("A")
    assert machine.table == b"x\n"


def test_jobs_are_told_apart_by_their_whole_names(machine: Machine) -> None:
    names = ["A", "AB", "A.B", "A-B", "AxB", "Ä", "b_A", "1"]
    for name in names:
        crontab.enable(DAILY, job(name))
    assert machine.table == b"".join(ours(job(name)) for name in names)
    crontab.disable("A")
    crontab.remove("A.B")
    assert [status(name) for name in names] == ["disabled", "enabled", "absent", *["enabled"] * 5]
    crontab.remove("A")
    crontab.remove("Ä")
    assert machine.table == b"".join(ours(job(name)) for name in ("AB", "A-B", "AxB", "b_A", "1"))


def test_nothing_is_written_when_nothing_changes(machine: Machine) -> None:
    crontab.enable(DAILY, job())
    assert machine.asked() == ["-l", "-", "-l"]
    assert crontab.enable(DAILY, job()).startswith("Cron knows job A, at '0 3 * * *', next on ")
    assert crontab.remove("B") == "Job B is not in the crontab; there is nothing to remove."
    assert set(machine.asked()) == {"-l"}
    crontab.enable(Timing.parse("1 3 * * *"), job())
    crontab.disable("A")
    machine.asked()
    assert crontab.disable("A") == "Job A was disabled already."
    assert set(machine.asked()) == {"-l"}
    assert timing_of("A") == "1 3 * * *"


def test_no_crontab_is_an_empty_one(machine: Machine) -> None:
    assert status("A") == "absent"
    assert timing_of("A") is None
    assert machine.table is None
    crontab.enable(DAILY, job())
    assert crontab.remove("A") == "Job A is no longer in the crontab."
    assert machine.table == b""


def test_a_crontab_that_cannot_be_read_is_never_written(machine: Machine) -> None:
    machine.table = b"x\n" + ORIGINAL
    machine.switch("unreadable", "You (somebody) are not allowed to use this program (crontab)\nSee crontab(1)\n")
    attempts: list[Callable[[], object]] = [
        lambda: crontab.enable(DAILY, job()),
        *(partial(deed, "A") for deed in (crontab.disable, crontab.remove, status, timing_of)),
    ]
    for attempt in attempts:
        with pytest.raises(ScheduleError, match=r"cannot be read \(You \(somebody\) are not allowed .* See crontab"):
            attempt()
    assert set(machine.asked()) == {"-l"}
    assert machine.table == b"x\n" + ORIGINAL


def test_a_crontab_that_is_refused_stays(machine: Machine) -> None:
    machine.table = b"x\n"
    machine.switch("refusal", '"-":0: bad minute\nerrors in crontab file, can\'t install.\n')
    with pytest.raises(ScheduleError, match=r"stays as it was, because crontab refused the new one .*bad minute"):
        crontab.enable(DAILY, job())
    assert machine.table == b"x\n"


def test_what_was_written_is_read_again(machine: Machine) -> None:
    machine.switch("forgetful")
    with pytest.raises(ScheduleError, match="The crontab is not as it was written"):
        crontab.enable(DAILY, job())


def test_a_machine_without_crontab(machine: Machine) -> None:
    (machine.folder / "crontab").unlink()
    assert not crontab.has_crontab()
    assert status("A") == "absent"
    assert timing_of("A") is None
    assert crontab.remove("A") == "Job A is not in the crontab; there is nothing to remove."
    attempts: list[Callable[[], object]] = [lambda: crontab.enable(DAILY, job()), lambda: crontab.disable("A")]
    for attempt in attempts:
        with pytest.raises(ScheduleError) as error:
            attempt()
        assert str(error.value) == (
            "This machine has no crontab command; install cron, use --systemd (cron_enable(systemd=True)), "
            'or run "sen2chain job run NAME" from the scheduler you have.'
        )


def test_a_crontab_command_that_cannot_be_run(machine: Machine) -> None:
    (machine.folder / "crontab").write_bytes(b"\x7fELF no program")
    with pytest.raises(ScheduleError, match=r"The command .*crontab cannot be used \(.*Exec format error"):
        status("A")


_ENABLE = """
import sys
from pathlib import Path
from sen2chain.jobs.schedule import JobCommand, Timing, crontab
print("ready", flush=True)
sys.stdin.readline()
for number in range(4):
    command = JobCommand.of(f"B{number}", Path(sys.argv[1]), Path(sys.argv[1], "out"))
    crontab.enable(Timing.parse("0 3 * * *"), command)
"""


def test_two_processes_do_not_lose_each_others_lines(machine: Machine, tmp_path: Path) -> None:
    machine.switch("slow")
    with subprocess.Popen(  # noqa: S603 - our own interpreter
        [sys.executable, "-c", _ENABLE, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"ready\n"
        assert other.stdin is not None
        other.stdin.write(b"\n")
        other.stdin.flush()
        for number in range(4):
            crontab.enable(DAILY, job(f"A{number}"))
        other.communicate(timeout=60)
    assert other.returncode == 0
    assert [status(f"{letter}{number}") for letter in "AB" for number in range(4)] == ["enabled"] * 8
    assert (machine.table or b"").count(b"\n") == 8


def test_a_crontab_that_somebody_else_holds(machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sen2chain.jobs.schedule.crontab._PATIENCE", 0)
    (tmp_path / "cache").mkdir()
    with (
        filelock.FileLock(tmp_path / "cache" / "crontab.lock"),
        pytest.raises(ScheduleError, match=r"Another process holds .*crontab.lock; try again"),
    ):
        crontab.enable(DAILY, job())
    assert machine.table is None


def test_whether_the_daemon_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sen2chain.jobs.schedule.crontab._DAEMONS", {"sen2chain-cron"})
    if crontab.daemon_runs() is None:
        pytest.skip("this machine does not show its processes")
    assert crontab.daemon_runs() is False
    program = tmp_path / "sen2chain-cron"
    program.write_text("#!/bin/sh\nread line\n", encoding="ascii")
    program.chmod(0o755)
    with subprocess.Popen([program], stdin=subprocess.PIPE) as process:  # noqa: S603 - written above
        deadline = time.monotonic() + 5
        while not crontab.daemon_runs() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert crontab.daemon_runs() is True
        process.communicate(b"\n")


# ----------------------------------------------------------------------------------------------------------- systemd


def units(tmp_path: Path) -> set[str]:
    folder = tmp_path / "config" / "systemd" / "user"
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir() or path.is_symlink()}


def test_a_timer_from_enable_to_remove(machine: Machine, tmp_path: Path) -> None:
    assert status("A") == "absent"
    assert timing_of("A") is None
    assert systemd.remove("A") == "Job A has no timer; there is nothing to remove."
    with pytest.raises(ScheduleError, match=r"Job A has no timer in .*; there is nothing to disable"):
        systemd.disable("A")
    said = systemd.enable(Timing.parse("0 0 13 * fri"), job())
    assert said.startswith("Job A is started by systemd at '0 0 13 * fri', next on ")
    assert "enable-linger" in said
    timer = "sen2chain-job-A.timer"
    assert machine.asked("systemctl") == ["--user daemon-reload", f"--user enable --now {timer}"]
    assert units(tmp_path) == {timer, "sen2chain-job-A.service", f"timers.target.wants/{timer}"}
    assert (tmp_path / "config" / "systemd" / "user" / timer).read_text(encoding="utf-8") == (
        "# timing: 0 0 13 * fri\n[Unit]\nDescription=When Sen2Chain job A runs\n\n[Timer]\n"
        "OnCalendar=*-*-13 00:00:00\nOnCalendar=Fri *-*-* 00:00:00\nPersistent=true\n\n"
        "[Install]\nWantedBy=timers.target\n"
    )
    systemd.enable(DAILY, job())
    assert (status("A"), timing_of("A")) == ("enabled", "0 3 * * *")
    machine.asked("systemctl")
    assert systemd.disable("A") == "Job A is no longer started by systemd."
    assert machine.asked("systemctl") == [f"--user disable --now {timer}"]
    assert (status("A"), timing_of("A")) == ("disabled", "0 3 * * *")
    assert systemd.disable("A") == "Job A was disabled already."
    assert units(tmp_path) == {timer, "sen2chain-job-A.service"}
    systemd.enable(DAILY, job())
    assert status("A") == "enabled"
    assert systemd.remove("A") == "The timer of job A is removed."
    assert units(tmp_path) == set()
    assert status("A") == "absent"


@pytest.mark.parametrize("missing", [False, True])
def test_timers_without_a_systemd_that_listens(machine: Machine, tmp_path: Path, *, missing: bool) -> None:
    if missing:
        (machine.folder / "systemctl").unlink()
    machine.switch("no-bus")
    reason = "there is no systemctl" if missing else "Failed to connect to bus: No medium found"
    said = systemd.enable(DAILY, job())
    assert f'({reason}): call "systemctl --user enable --now sen2chain-job-A.timer" or log in anew' in said
    assert 'once "loginctl enable-linger" has been called' in said
    link = tmp_path / "config/systemd/user/timers.target.wants/sen2chain-job-A.timer"
    assert link.resolve() == tmp_path / "config/systemd/user/sen2chain-job-A.timer"
    assert status("A") == "enabled"
    systemd.enable(DAILY, job())
    assert f"({reason})" in systemd.disable("A")
    assert status("A") == "disabled"
    assert f"({reason})" in systemd.remove("A")
    assert units(tmp_path) == set()


def test_timers_of_home(machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    machine.switch("no-bus")
    systemd.enable(DAILY, job())
    assert (tmp_path / "home/.config/systemd/user/sen2chain-job-A.service").is_file()


def test_names_of_units(machine: Machine, tmp_path: Path) -> None:
    escape = shutil.which("systemd-escape", path=os.defpath)
    for name, escaped in (("A_b.C1", "A_b.C1"), ("Ätna", r"\xc3\x84tna"), ("日", r"\xe6\x97\xa5")):
        systemd.enable(DAILY, job(name))
        assert f"sen2chain-job-{escaped}.timer" in units(tmp_path)
        assert status(name) == "enabled"
        assert escape is None or run(escape, name, LC_ALL="C.UTF-8").stdout.strip() == escaped
    systemd.enable(DAILY, job("a-b"))
    assert "sen2chain-job-a-b.service" in units(tmp_path)
    machine.switch("no-bus")
    assert r"""--now 'sen2chain-job-\xc3\x84tna.timer'" or""" in systemd.enable(DAILY, job("Ätna"))
    with pytest.raises(ScheduleError, match="cannot be scheduled by systemd: its name is too long; use cron"):
        systemd.enable(DAILY, job("日" * 20))
    for length in (20, 100):
        assert status("日" * length) == "absent"
        assert timing_of("日" * length) is None
        assert "nothing" in systemd.remove("日" * length)


def unquoted(text: str, *, variables: bool) -> list[str]:
    """Read a line of quoted words as systemd.syntax and systemd.service say."""
    assert re.fullmatch(r'@?"(?:[^"\\]|\\.)*"(?: "(?:[^"\\]|\\.)*")*', text)
    words = re.findall(r'"((?:[^"\\]|\\.)*)"', text)
    found = []
    for word in words:
        plain = re.sub(r"\\(.)", r"\1", word)
        assert "%" not in plain.replace("%%", "")
        plain = plain.replace("%%", "%")
        found.append(plain)
    if variables:
        assert all("$" not in word.replace("$$", "") for word in found[1:])
        found[1:] = [word.replace("$$", "$") for word in found[1:]]
    return found


@given(
    st.lists(
        st.text(st.sampled_from("a \\%'\"$;") | st.characters(min_codepoint=32, exclude_categories=["C"])), min_size=1
    )
)
def test_any_word_can_be_read_from_a_unit(words: list[str]) -> None:
    command = JobCommand(
        "A", ("/x $%y", *words), tuple((f"V{i}", word) for i, word in enumerate(words)), Path("/x%/'\" y")
    )
    *variables, start, output, error = command.as_systemd()
    assert unquoted(start.removeprefix("ExecStart="), variables=True) == ["/x $%y", "/x $%y", *words]
    found = [unquoted(line.removeprefix("Environment="), variables=False) for line in variables]
    assert found == [[f"V{i}={word}"] for i, word in enumerate(words)]
    assert output == "StandardOutput=append:/x%%/'\" y"
    assert error == "StandardError=append:/x%%/'\" y"


def test_systemd_itself_takes_the_units(machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    analyze = shutil.which("systemd-analyze", path=os.defpath)
    if analyze is None:
        pytest.skip("systemd-analyze is not installed")
    folder = tmp_path / NASTY.rstrip("\\")
    folder.mkdir()
    python = tmp_path / "".join(letter for letter in NASTY if letter not in "\"'\\")
    python.symlink_to(Path(sys.executable).resolve())
    machine.switch("no-bus")
    systemd.enable(Timing.parse("*/7 1-23/5 13 * fri"), saying(folder / "out", NASTY, program=str(python), word=NASTY))
    files = sorted((tmp_path / "config" / "systemd" / "user").glob("sen2chain*"))
    assert len(files) == 2
    monkeypatch.setenv("PATH", os.defpath)
    (tmp_path / "run").mkdir()
    done = run(analyze, "verify", "--user", "--man=no", *files, XDG_RUNTIME_DIR=str(tmp_path / "run"))
    assert [line for line in (done.stdout + done.stderr).splitlines() if "sen2chain" in line] == []
    assert done.returncode == 0, done.stderr
    # It does look: a program that is not there is told.
    python.unlink()
    done = run(analyze, "verify", "--user", "--man=no", *files, XDG_RUNTIME_DIR=str(tmp_path / "run"))
    assert "is not executable" in done.stderr


def test_what_a_unit_cannot_say(tmp_path: Path) -> None:
    with pytest.raises(ScheduleError, match="ends with a space or a backslash"):
        saying(tmp_path / "out\\").as_systemd()
    with pytest.raises(ScheduleError, match="is not UTF-8; rename that folder"):
        saying(tmp_path / os.fsdecode(b"\xe4")).as_systemd()
    for program in ("/x'y", '/x"y', "/x\\y"):
        with pytest.raises(ScheduleError, match="which starts no program with a quote or a backslash in its path"):
            saying(tmp_path / "out", program=program).as_systemd()


def test_a_timer_that_cannot_be_read_hides_no_other(machine: Machine) -> None:
    machine.switch("no-bus")
    for name in ("A", "B"):
        systemd.enable(DAILY, job(name))
    timer = Path(os.environ["XDG_CONFIG_HOME"], "systemd", "user", "sen2chain-job-A.timer")
    for content in (b"\xff", b"[Timer]\n"):
        timer.write_bytes(content)
        assert (status("A"), timing_of("A"), timing_of("B")) == ("enabled", "", "0 3 * * *")


# ------------------------------------------------------------------------------------------------- homes, and hanging


def located(name: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> JobLocation:
    monkeypatch.setenv("SEN2CHAIN_HOMEPATH", str(home))
    return JobLocation.of(name)


@pytest.mark.parametrize("timers", [False, True])
def test_the_home_of_a_job_is_named(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, timers: bool
) -> None:
    machine.switch("no-bus")
    nasty = tmp_path / "é %b\\'!#\""
    for home, other in ((tmp_path / "one", nasty), (nasty, tmp_path / "one")):
        schedule = JobSchedule(located("A", home, monkeypatch))
        schedule.enable(DAILY, timers=timers)
        [entry] = found("A")
        assert entry.home == str(home / "sen2chain_data")
        if not timers:
            assert b" # sen2chain_home_/" in (machine.table or b"")
            assert b"\\%" in (machine.table or b"") or home != nasty
        before = machine.table
        theirs = JobSchedule(located("A", other, monkeypatch))
        assert theirs.status() == "absent"
        deeds: tuple[Callable[[], str], ...] = (
            partial(theirs.enable, DAILY, timers=False), theirs.disable, theirs.remove,
        )  # fmt: skip
        for deed in deeds:
            with pytest.raises(ScheduleError, match="A job A of another home or library is scheduled"):
                deed()
        assert machine.table == before
        located("A", home, monkeypatch)
        schedule.remove()


FORMER = (
    b'0 5 * * 1 /bin/sh -c \'export SEN2CHAIN_HOMEPATH=/elsewhere PATH=/bin; o=/x/out; mkdir -p "${o%/*}"; exec '
    b'python -P -m sen2chain.cli job run A --quiet >> "$o" 2>&1\' # sen2chain_job_A\n'
).replace(b"%", b"\\%")


@pytest.mark.parametrize("line", [FORMER, b"# " + FORMER, ORIGINAL])
def test_a_line_that_names_no_home_is_found_shown_and_replaced(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: bytes
) -> None:
    machine.table = b"x\n" + line
    location = located("A", tmp_path, monkeypatch)
    schedule, state = JobSchedule(location), AllSchedules.read().state(location)
    assert (state.status, state.timing) == ("disabled" if line.startswith(b"#") else "enabled", "0 5 * * 1")
    assert ("original" in state.by) == (line is ORIGINAL)
    schedule.disable()
    assert machine.table == b"x\n# " + line.removeprefix(b"# ")
    schedule.enable(DAILY, timers=False)
    assert machine.table.startswith(b"x\n0 3 * * * ")
    assert machine.table.endswith(os.fsencode(f" # sen2chain_home_{tmp_path}/sen2chain_data # sen2chain_job_A\n"))
    assert machine.table.count(b"\n") == 2
    schedule.remove()
    assert machine.table == b"x\n"


def test_a_command_that_is_nearly_too_long_does_without_the_home(tmp_path: Path) -> None:
    def text(home: Path | None, word: str) -> str:
        return JobCommand("A", ("/bin/x", word), (), tmp_path / "o", home).as_crontab()

    room = 998 - len(os.fsencode(text(None, "x"))) + 1
    assert "sen2chain_home_" in text(tmp_path, "x")
    assert "sen2chain_home_" not in text(tmp_path, "x" * room)
    assert text(tmp_path, "x" * room) == text(None, "x" * room)


def test_a_crontab_command_that_hangs_is_given_up(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.table = b"x\n"
    machine.switch("hanging")
    monkeypatch.setattr("sen2chain.jobs.schedule.crontab._ANSWER", 0.2)
    schedule = JobSchedule(located("A", tmp_path, monkeypatch))
    assert "timed out" in schedule.state().remark
    attempts: list[Callable[[], object]] = [
        schedule.status, schedule.disable, schedule.remove, lambda: schedule.enable(DAILY, timers=False),
    ]  # fmt: skip
    for attempt in attempts:
        machine.asked()
        with pytest.raises(ScheduleError, match="timed out"):
            attempt()
        assert machine.asked() == ["-l"]
    assert "is started by systemd" in schedule.enable(DAILY, timers=True)
    assert machine.asked() == ["-l"]
    assert machine.table == b"x\n"


def test_either_scheduler_is_asked_in_the_same_words() -> None:
    assert scheduler(systemd_timers=True) is systemd
    assert scheduler(systemd_timers=False) is crontab
    assert mark("A") == "# sen2chain_job_A"
