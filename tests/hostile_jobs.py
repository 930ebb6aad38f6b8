"""Files of jobs that were made to do harm: a name, and what stands in the file.

``{L}`` is a layer that can be extracted, ``{T}`` the folder in which everything lies. Whatever a file asks for, nothing
may be done but what `tests/test_jobs_hostile.py` allows.
"""

from __future__ import annotations

from sen2chain.jobs.job_file import COLUMNS

HEADER = ";".join(COLUMNS)
CM004 = "CM004-CSH1-CMP1-CHP1-TCI1-ITER1"
GOOD = {
    "shapefile": "{L}", "date_max": "2021-12-31", "cloudmasks": CM004, "indices": "NDVI", "compiled_data": "monthly",
}  # fmt: skip

SHELL = (
    "$(touch {T}/pwned)", "`touch {T}/pwned`", "; touch {T}/pwned", "| touch {T}/pwned", "&& touch {T}/pwned",
    "> {T}/pwned", "'; touch {T}/pwned; '", "${IFS}touch", "%n%s%h", "a\\nb", "*", "~", "!!", "{{x}}", "[/b]",
)  # fmt: skip
"""What a shell, a format or a markup would do something with; none of it holds a quote for cells."""

OPTIONS = (
    "-e sh", "--rsh=sh", "--rsync-path=sh", "-oProxyCommand=sh", "--", "-", "--files-from={T}/secret", "-rf", "@file",
)  # fmt: skip

DESTINATIONS = (
    "-oProxyCommand=sh:x", "-e@host:x", "user@-oProxyCommand=sh:x", "--rsh=sh@host:x", "a b@host:x", "me@ho st:x",
    "host:$(touch {T}/pwned)", "me@host:`id`", "host:a;b", "host:-rf", "host:--delete", "host:a b'c", "host:~root/x",
    "host:~/x", "host::module", "host:", ":x", "@host:x", "me@:x", "[::1]:x", "[-e]:x", "host:../../../etc",
    "host:x*", "rsync://host/x", "file:///etc/../{T}/far/f", "file://host/x", "FILE:///{T}/out", "local://x",
    "simplecache::s3://b/x", "filecache::zip://x::file://{T}/out", "zip://{T}/out", "tar://x", "memory://",
    "reference://x", "s3://key:p@ss@bucket/x", "s3://", "nosuch://x", "javascript:alert(1)", "C:\\x", "dir://{T}/out",
    "ho$t:x", "host%0a:x", "host\u202e:x", "host:\u202egpj.exe", "\u0660host:x", "/dev/null/x", "/proc/self/x",
    "~nobody-here/x", "relative/x", "../out", "{T}/far/../far/./x", "{T}/far/$(id)", "{T}/far/-rf",
    "host:" + "x" * 9000,
)  # fmt: skip

DATES = (
    "today-999999999999", "today-999999", "today--1", "today+1", "9999-99-99", "9999-12-31", "0001-01-01", "0000-00-00",
    "\u0662\u0660\u0662\u0661-\u0660\u0661-\u0660\u0661", "2021-1-1", "2021-02-30", "1e3", "20210101",
    "$(date)", "%Y-%m-%d", "today-٣", "today - 5",
)  # fmt: skip

NUMBERS = (
    "-1", "1e3", "1_0", "0x10", "٣", "nan", "inf", "-0", "1" * 400, "1e-400", "50%%", "5 0", "½", "100.0000000000001",
)  # fmt: skip

MASKS = (
    "CM003-PRB999-ITER1", "CM003-PRB1-ITER99999999", "CM004-CSH2-CMP1-CHP1-TCI1-ITER1", "CM003-PRB50-ITER9999",
    "SCL-99-ITER1", "SCL-3-3-ITER1", "SCL" + "-3" * 3000 + "-ITER1", "CM004-CSH1-CMP1-CHP1-TCI1-ITER٣", "CM002-../..",
    "../../x", "OCM_v" + "9" * 400, "CM001/" * 2 + "CM001", "cm001", "//", "CM001\u0000",
)  # fmt: skip

INDICES = (
    "X=__import__('os').system('id')", "X=B08**9**9**9", "X=" + "-" * 490 + "B08", "X=" + "(" * 200 + "B08" + ")" * 200,
    "X=9" + "9" * 400 + "*B08", "X=B08.__class__", "X=[B08 for B08 in ()]", "X=(lambda:B08)()", "X=f'{{B08}}'", "X=",
    "=B08", "..=B08", "a b=B08", "-rf=B08", "NDVI=B08", "X=B08 if B04 else B08", "X=B08\\", "X=exp(exp(exp(B08*B08)))",
    "A" * 4000 + "=B08", "All/NDVI", "ALL", "X=B08@B04", "X=1e999*B08", "X=B08#", "X=sqrt(B08,B04)", "X=0x10*B08",
)  # fmt: skip

LAYERS = (
    "", "/", "/proc", "/dev/zero", "/dev/stdin", "{T}/pipe", "{T}/pipe.shp", "{T}/loop", "{T}/dangling", "{T}/secret",
    "/vsicurl/http://127.0.0.1:1/x", "/vsistdin/", "PG:host=127.0.0.1", "file:///etc/passwd", "../" * 60 + "etc/passwd",
    "{L}|layername=", "{L}|layername=$(id)", "{L}|layername=" + "x" * 5000, "{L}/x", "{L}!/x", "x" * 5000, "~root",
    "~nobody-here/x", "-rf", "{T}/far", "{T}/$(touch pwned).gpkg", "{T}/-rf.gpkg", "{T}/a'b`id`.gpkg", "{T}/..gpkg",
    "{T}/%n[b]*.gpkg", "{T}/link.gpkg", "{T}/other.vrt",
)  # fmt: skip

CATALOGUES = (
    "{T}/pipe", "/dev/zero", "{T}/secret", "file:///etc/passwd", "file://host/x", "javascript:x", "{T}", "$(id)",
    "~root", "../" * 60 + "etc/passwd", "/vsicurl/http://127.0.0.1:1/x", "https://", "http://[",
    "https://x\\y@127.0.0.1:1/\u202e", "{L}", "x" * 5000, "s3://", "%n[b]*", "{T}/loop",
)  # fmt: skip

KEPT = (
    "$(id)", "`touch {T}/pwned`", "B04/../../x", "B04,B08", "b04", "B99", "SCL/CLDPRB", "B04/B04", "//", "True;B04",
    "B" * 9000, "../pixels", "{T}/out", "__class__", "B\u0660\u0664", "B04\u0000", "TRUE/B04", "2", "%n[b]*",
)  # fmt: skip

SETTINGS = {
    "timing": (
        "@reboot", "@REBOOT", "@every 1s", "% * * * *", "0 0 * * * touch {T}/pwned", "0 0 * * *;id", "0 0 * * $(id)",
        "0 0 30 2 *", "*/0 * * * *", "99999999999999999999 * * * *", "1-2-3 * * * *", "٣ * * * *", "0 0 * *", "[/b]",
        "* " * 3000, "1," * 3000 + "1 * * * *", "*/" + "9" * 5000 + " * * * *", "",
    ),
    "logs": ("$(id)", "2", "True;id", "٣", "T" * 9000),
    "nb_proc": ("-1", "1e3", "99999999999", "٣", "0x10", "$(id)", "1_000", ""),
    "process_by_line": ("-1", "1e9", "100000", "½", "1"),
    "delivery_timeout": ("0", "-5", "inf", "nan", "1e9", "999999999"),
    "on_failure": ("'", '"a', "a\\", "''", "$(touch {T}/pwned)", "-", "hook $(id) `id` ; | > {T}/pwned * ~ %s",
                   "hook 'a b' \"c;d\" --x=$HOME", "/nowhere/x", "{T}", "{T}/secret", "x" * 20_000, "hook # x"),
    "on_success": ("hook ; touch {T}/pwned", "hook && id", "../bin/hook", "sh -c 'touch {T}/pwned'"),
    "__class__": ("x",),
    "PATH": ("{T}/out",),
    "nb_proc ": ("3",),
    "ﾀｲﾐﾝｸﾞ": ("0 0 * * *",),
}  # fmt: skip


def line(**cells: str) -> str:
    """Return a line of the table that is good but for some cells."""
    given = {**GOOD, **cells}
    return ";".join(given.get(column, "") for column in COLUMNS)


def job(*rows: str, head: str = "logs = True\n", header: str = HEADER, end: str = "\n") -> str:
    return f"{head}{header}\n{end.join(rows)}\n"


def _lines(column: str, values: tuple[str, ...], **cells: str) -> str:
    """Return a file with one line for each value, as it is and in quotes."""
    quoted = ['"' + value.replace('"', '""') + '"' for value in values if {";", '"'} & set(value)]
    if column not in COLUMNS:
        rows = (f"{line(**cells)};{value}" for value in (*values, *quoted))
        return job(*rows, header=f"{HEADER};{column}")
    return job(*(line(**{**cells, column: value}) for value in (*values, *quoted)))


def corpus() -> dict[str, str | bytes]:
    """Return all files by their names."""
    found: dict[str, str | bytes] = {
        f"shell in {column}": _lines(column, SHELL, date_max="2020-01-01") for column in COLUMNS
    }
    found |= {f"options in {column}": _lines(column, OPTIONS, date_max="2020-01-01") for column in COLUMNS}
    found |= {
        "destinations": _lines("copy_server", DESTINATIONS, date_max="2016-01-01"),
        "dates": _lines("date_min", DATES),
        "last dates": _lines("date_max", DATES, compiled_data="all/weekly/yearly"),
        "numbers": _lines("max_clouds", NUMBERS),
        "masks": _lines("cloudmasks", MASKS),
        "indices": _lines("indices", INDICES),
        "layers": _lines("shapefile", LAYERS),
        "kinds": _lines("compiled_data", ("../..", "all/../x", "custom", "raw", "ALL", "monthly/", "/", "m\u0131nute")),
        "smoothing": _lines("smooth_data", ("../..", "True;", "savgol(1)", "whittaker/original", "TRUE"),
                            compiled_data="all"),
        "kept pixels": _lines("keep_pixels", KEPT, date_max="2016-01-01"),
        "margins": _lines("keep_margin", (*NUMBERS, "9" * 9000, "100001", "-300"), date_max="2016-01-01"),
        "force": _lines("force_extraction", ("rm", "1e0", "yes please", "\u0660", "0x1")),
    }  # fmt: skip
    for name, values in SETTINGS.items():
        for number, value in enumerate(values):
            if name in {"timing", "on_failure", "on_success"} or number < 2:
                found[f"{name} {number}"] = job(line(shapefile="nowhere.shp"), head=f"{name} = {value}\n")
        found[f"{name} many times"] = job(line(), head="".join(f"{name} = {value}\n" for value in values))
    for number, value in enumerate(CATALOGUES):
        found[f"catalogue {number}"] = job(line(date_max="2016-01-01"), head=f"library = stac:{value}\n")
    for code in (0x00, 0x07, 0x08, 0x0B, 0x0C, 0x0D, 0x1B, 0x1C, 0x7F, 0x85, 0x9B, 0x2028, 0x2029, 0x202E, 0x2066):
        char = chr(code)
        found[f"character {code:04x} in a cell"] = job(line(copy_server=f"host:a{char}b"), line(date_min=f"{char}x"))
        found[f"character {code:04x} in a setting"] = job(
            line(), head=f"on_success = hook a{char}b\ntiming = 0{char}0\n"
        )
    found |= _shapes()
    return found


def _shapes() -> dict[str, str | bytes]:
    """Return files whose shape is odd."""
    good = job(line(), line(indices="NDVY"))
    back = ";".join((COLUMNS[0], *reversed(COLUMNS[1:])))
    return {
        "nothing": b"", "a line feed": b"\n", "a NUL": b"\0", "only a mark": b"\xef\xbb\xbf",
        "UTF-16": good.encode("utf-16"), "UTF-16 without a mark": good.encode("utf-16-le"),
        "UTF-32": good.encode("utf-32"), "latin-1": job(line(shapefile="R\xe9union.shp")).encode("latin-1"),
        "marked": b"\xef\xbb\xbf" + good.encode(), "marked twice": b"\xef\xbb\xbf\xef\xbb\xbf" + good.encode(),
        "marked lines": f"\ufefflogs = True\n\ufeff{HEADER}\n\ufeff{line()}\n\ufeff!{line()}\n",
        "a surrogate": job(line()).encode() + b"\xed\xb3\xa9\n", "an overlong slash": b"logs = True\n\xc0\xaf\n",
        "a picture": bytes(range(256)) * 40, "an archive": b"PK\x03\x04" + bytes(5000),
        "old line ends": good.replace("\n", "\r"), "Windows": good.replace("\n", "\r\n"),
        "mixed line ends": f"logs = True\r\n{HEADER}\n{line()}\r\r\n{line()}",
        "no table": "logs = True\n", "only a table": f"{HEADER}\n", "a header twice": job(line(), HEADER, line()),
        "a header in capitals": job(line(), header=HEADER.upper()), "a header backwards": f"{back}\n" + "x;" * 9 + "\n",
        "a header of one": job("{L}", "!", "#", "x", header=COLUMNS[0]), "a header in quotes": job(
            line(), header=";".join(f'"{column}"' for column in COLUMNS)),
        "a header with more": job(line() + ";x", header=f"{HEADER};__class__"), "columns twice": job(
            line(), header=f"{HEADER};indices"), "an empty column": job(
            line(), header=HEADER.replace(";indices", ";;")),
        "a header with a formula": job(line(), header=f"{HEADER};$(id)"), "no first column": HEADER.split(";", 1)[1],
        "settings below": job(line(), "timing = 0 0 * * *", "on_failure = hook $(id)", "logs=True"),
        "quotes never closed": job('"{L};a', '"', '""', '"""', 'a"b', '"a"b;c', '"a";"b', line(copy_server='"host:x')),
        "quotes within": job(line(shapefile='"{L}"'), line(copy_server='"host:a;""b"""'), '"' * 2001),
        "marks": job("!", "!!", "! !{L}", "!#", "#!", '"!x"', "!" + line(), "!" * 3000),
        "too few and too many": job("{L}", "{L};;;;;;;;;;;;;;;;", ";", "", " ;", ";" * 400, line() + ";" + "a;" * 300),
        "assignments": "= = =\n= x\nx =\n==\n a = b = c\n\u00e9 = x\n" + job(line()),
        "comments": "#" * 5000 + "\n# \x1b]0;"
        "x\x07\n#\u2028on_success = hook\n" + job(line()),
        "spaces of Unicode": job(line(indices="\u3000NDVI\u00a0"), line(date_min="\u00a0today-5\u2003")),
        "one very long line": job(line(copy_server="host:" + "x" * 400_000), line(indices="N" * 400_000)),
        "a very long word": "x" * 400_000, "many settings": "".join(f"x{i} = 1\n" for i in range(3000)) + job(line()),
        "many indices": job(line(indices="/".join(f"I{i}=B08+{i}" for i in range(40)), date_max="2016-01-01")),
        "too large": b"# " + b"x" * 4_100_000,
    }  # fmt: skip


TOKENS = (
    *SHELL[:8], *OPTIONS[:5], *DESTINATIONS[:12], *DATES[:6], *NUMBERS[:6], *MASKS[:4], *INDICES[:6], *LAYERS[:9],
    ";", ";;;", "\n", "\r\n", "!", "#", '"', '""', "=", " = ", "/", ":", "@", "\x00", "\x1b[2J", "\ufeff", "\u2028",
    "\u202e", "{L}", CM004, "NDVI", "All", "today", "today-30", "2021-10-01", "monthly", "all/all_data", "True",
    "savgol",
    "{T}/far/x", "host:x/y", "me@host:/x", HEADER, "shapefile", "logs = True", "timing = 0 0 * * *",
    "on_failure = hook",
    "on_success = hook 'a b' $(id)", "process_by_line = 1", "nb_proc = 2", line(date_max="2016-01-01"),
    line(copy_server="{T}/far/z"),
)  # fmt: skip
"""Words that the fuzzer puts into files, bad ones and good ones."""
