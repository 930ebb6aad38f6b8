"""Notebooks: what a cell shows during work and after it, with a stand-in for the kernel and with a real one."""

from __future__ import annotations

import re
import sys
import time
import types
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import geopandas as gpd
import pytest
from shapely import box

from sen2chain import JobExtraction, TimeSeries, TimeSeriesCompil, notebook
from sen2chain.progress import activity, progress, say

if TYPE_CHECKING:
    from pathlib import Path

    from sen2chain import demo

EVIL = '<script>alert(1)</script> $x$ "&\x1b'


class Kernel:
    """What the package uses of IPython in a kernel; keeps the outputs of cells."""

    def __init__(self) -> None:
        self.outputs: list[list[str]] = []
        self.execution_count = 1
        self.kernel: object = object()
        self.is_broken = False

    def display(self, content: dict[str, str], *, raw: bool, display_id: bool) -> Kernel.Handle:
        assert raw
        assert display_id
        if self.is_broken:
            raise OSError("the front end is gone")
        self.outputs.append([content["text/html"]])
        return Kernel.Handle(self.outputs[-1])

    class Handle:
        def __init__(self, output: list[str]) -> None:
            self._output = output

        def update(self, content: dict[str, str], *, raw: bool) -> None:
            assert raw
            self._output.append(content["text/html"])


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    made = Kernel()
    module: Any = types.ModuleType("IPython")
    module.get_ipython = lambda: made
    module.display = types.SimpleNamespace(display=made.display)
    monkeypatch.setitem(sys.modules, "IPython", module)
    monkeypatch.setattr(notebook, "_OUTPUT", notebook._Output())
    monkeypatch.setattr(notebook, "_SECONDS", 0.0)
    monkeypatch.setattr(notebook, "_BEFORE", 0.0)
    return made


class Tags(HTMLParser):
    """The tags and the text of a piece of HTML."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, _: Any) -> None:
        self.tags.add(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


def test_a_cell_shows_progress_that_is_gone_at_the_end(kernel: Kernel) -> None:
    with progress(EVIL, 4) as step:
        for _ in range(3):
            step()
        step(3.5, 8)
    (output,) = kernel.outputs
    shown = Tags(output[-2])
    assert shown.tags == {"div", "progress"}
    assert re.search(r"44% \(4 of 8\), 0:00, 0:00 left", shown.text)
    assert "alert(1)" in shown.text
    assert output[-1] == ""
    with progress("again", 1) as step:
        step()
    assert len(kernel.outputs) == 1  # the same output of the same cell
    kernel.execution_count = 2
    with progress("next", 1) as step:
        step()
    assert len(kernel.outputs) == 2


def test_work_without_steps_is_shown_once_it_takes_time(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    with activity("reading"):
        time.sleep(0.1)
    assert Tags(kernel.outputs[0][0]).text == "reading \N{HORIZONTAL ELLIPSIS}"
    assert kernel.outputs[0][-1] == ""
    monkeypatch.setattr(notebook, "_BEFORE", 60.0)
    kernel.execution_count = 2
    with activity("quick"), progress("quick", 2) as step:
        step()
    assert len(kernel.outputs) == 1


def test_several_things_at_once_have_a_line_each(kernel: Kernel) -> None:
    with progress("outer", 2) as outer:
        outer()
        with progress("inner", 2) as inner:
            inner()
        outer()
    texts = [Tags(text).text for text in kernel.outputs[0]]
    assert any("outer" in text and "inner" in text for text in texts)
    assert "inner" not in texts[-2]
    assert texts[-1] == ""


def test_not_more_often_than_a_notebook_keeps_up(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notebook, "_SECONDS", 0.2)
    with progress("many", 5000) as step:
        for _ in range(5000):
            step()
    assert len(kernel.outputs[0]) < 50


@pytest.mark.parametrize("what", ["quiet", "terminal IPython", "broken IPython", "no IPython", "another process"])
def test_nothing_is_shown_elsewhere(
    kernel: Kernel, what: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if what == "terminal IPython":
        kernel.kernel = None
    elif what == "broken IPython":
        monkeypatch.delattr(sys.modules["IPython"], "get_ipython")
    elif what == "no IPython":
        monkeypatch.delitem(sys.modules, "IPython")
    elif what == "another process":
        monkeypatch.setattr(notebook, "_PROCESS", -1)
    with progress("extracting", 2, quiet=what == "quiet") as step, activity("reading", quiet=what == "quiet"):
        step()
        time.sleep(0.02)
    say("done")
    assert kernel.outputs == []
    assert capsys.readouterr() == ("", "")


def test_a_front_end_that_is_gone_does_not_end_the_work(kernel: Kernel) -> None:
    kernel.is_broken = True
    with progress("extracting", 2) as step:
        step()
    assert kernel.outputs == []


def test_a_card_shows_texts_as_they_are() -> None:
    made = Tags(notebook.card(EVIL, [(EVIL, EVIL), ("none", None)], EVIL, [(EVIL,), (1234567,)]))
    assert made.tags == {"div", "strong", "table", "tr", "th", "td", "thead", "tbody", "p", "code"}
    assert made.text.count("<script>alert(1)</script>") == 5
    assert "1,234,567" in made.text
    assert "none" not in made.text
    assert "$x$" not in notebook.card(EVIL, [])


def test_a_series_shows_itself_and_extracts_nothing(
    few_fields: demo.DemoArchive, monkeypatch: pytest.MonkeyPatch
) -> None:
    series = TimeSeries(few_fields.layer, "NDVI", library=few_fields.library, quiet=True, multiproc=1)
    monkeypatch.setattr(TimeSeries, "run", lambda _: pytest.fail("it ran"))
    before = Tags(series._repr_html_()).text
    assert "Features" in before
    assert "Acquisitions8" in before.replace("\n", "")
    assert "ts.run()" in before
    assert "Rows" not in before
    assert "Datesall" in before.replace("\n", "")
    monkeypatch.undo()
    series.run()
    after = Tags(series._repr_html_()).text
    assert f"Rows{series.rows}" in after.replace("\n", "")
    assert "another tile, baseline or part of the same acquisition gave the better row" in after
    assert "ts.report" in after


def test_a_folder_shows_itself_without_reading(few_fields: demo.DemoArchive, tmp_path: Path) -> None:
    layer = gpd.GeoDataFrame({"name": ["x"]}, geometry=[box(0, 0, 1, 1)], crs="EPSG:4326")
    series = TimeSeriesCompil(layer, "NDVI", name="<b>", library=few_fields.library, extraction=tmp_path, quiet=True)
    shown = Tags(series._repr_html_())
    assert "nothing extracted yet" in shown.text
    assert "ts.extract_data()" in shown.text
    assert "b" not in shown.tags
    assert list(tmp_path.iterdir()) == []


def test_a_job_shows_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEN2CHAIN_HOMEPATH", str(tmp_path))
    job = JobExtraction("Nightly")
    job.task_add({"shapefile": "<i>fields</i>.shp", "indices": "NDVI"})
    shown = Tags(job._repr_html_())
    assert "JobExtraction Nightly" in shown.text
    assert "not saved yet" in shown.text
    assert "<i>fields</i>.shp" in shown.text
    assert "i" not in shown.tags
    assert "job.save()" in shown.text


CELL = """
import time
from sen2chain.progress import progress
with progress("extracting", 4) as step:
    for _ in range(4):
        time.sleep(0.3)
        step()
"""


def test_a_real_kernel_shows_progress_and_then_nothing() -> None:
    pytest.importorskip("ipykernel", reason="the oldest-versions run has no kernel of notebooks")
    from jupyter_client.manager import start_new_kernel  # noqa: PLC0415  # it comes with the kernel

    manager, client = start_new_kernel(kernel_name="python3")
    seen: list[tuple[str, str]] = []

    def keep(message: dict[str, Any]) -> None:
        kind, content = message["header"]["msg_type"], message["content"]
        assert kind not in {"stream", "error"}, content
        if kind in {"display_data", "update_display_data"}:
            seen.append((kind, content["data"]["text/html"]))

    try:
        reply = client.execute_interactive(CELL, output_hook=keep, timeout=60)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    assert reply["content"]["status"] == "ok"
    assert [kind for kind, _ in seen] == ["display_data", *["update_display_data"] * (len(seen) - 1)]
    assert re.search(r"\d\d% \([12] of 4\)", seen[0][1])
    assert seen[-1][1] == ""
