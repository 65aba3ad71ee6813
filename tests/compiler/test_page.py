"""The report's page: it stands alone, says what the report says, and takes names from a model for text."""

from __future__ import annotations

import math
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewise_compiler.errors import Unsupported
from edgewise_compiler.markup import Html, tag
from edgewise_compiler.page import write_page, write_pages
from edgewise_compiler.plots import log_ticks, ticks
from edgewise_compiler.report import CandidateReport, Latency, LayerReport, Report, RungReport, TargetReport

EVIL = '"><script>alert(1)</script>&'
VOID = {"meta", "br"}


def latency(ms: float) -> Latency:
    return Latency(p50_ms=ms, p95_ms=ms * 1.2, spread=0.02, peak_rss_mb=61.0)


def candidate(name: str, metric: float, size: int, ms: float | None, **fields: Any) -> CandidateReport:
    return CandidateReport(
        name=name, rung=fields.pop("rung", "ptq"), target="onnxruntime", size=size, metric=metric,
        figures={"accuracy": metric, "cosine": 0.998}, nonfinite=0,
        latency=None if ms is None else latency(ms), **fields,
    )  # fmt: skip


def report(*, timed: bool = True, **fields: Any) -> dict[str, Any]:
    """fp32, u8s8 (chosen), s8s8 and one that collapsed."""
    times = {"source": 2.0, "fp32": 1.9, "u8s8": 0.9, "s8s8": 2.4, "collapsed": 0.8}
    candidates = [
        candidate("fp32", 0.91, 310_000, times["fp32"], rung="fp32", on_front=True, lacks=["too slow"]),
        candidate("u8s8", 0.905, 83_000, times["u8s8"], on_front=True),
        candidate("s8s8", 0.9049, 83_100, times["s8s8"], notes=["2 layers in float"]),
        candidate("collapsed", 0.1, 82_000, times["collapsed"], lacks=["metric 0.1000, expected at least 0.9000"]),
    ]
    if not timed:
        candidates = [msgspec.structs.replace(one, latency=None) for one in candidates]
    made = Report(
        profile="raspberry-pi-5", target="onnxruntime", runtime="1.32.0", scheme="u8s8", rung="ptq", metric="accuracy",
        metric_before=0.91, metric_after=0.905, items=300, size_before=312_000, size_after=83_000,
        latency={name: latency(ms) for name, ms in times.items()} if timed else None,
        not_measured=None if timed else "this machine is no aarch64", parity=1.5e-6, notes=["a note"],
        candidates=candidates,
        rungs=[
            RungReport(name="fp32", title="the source, optimized", price_s=1.0, candidates=["fp32"]),
            RungReport(name="fp16", title="half precision", price_s=0.0, skipped="no limit that it would help with"),
            RungReport(
                name="ptq", title="int8", price_s=2.0, candidates=["u8s8", "s8s8", "collapsed"],
                refused=["dynamic: weights refused: no MatMul"],
            ),
        ],
        front=["fp32", "u8s8"],
        layers=[LayerReport(node="conv1", op="Conv", snr_db=12.0), LayerReport(node="conv2", op="Conv", snr_db=48.0)],
        targets=[
            TargetReport(name="onnxruntime", ops=12),
            TargetReport(
                name="litert", ops=12,
                unsupported=[Unsupported(node="stft", op="STFT", why="has no form there", rewrite="use Conv")],
            ),
            TargetReport(name="openvino", missing="pip install openvino"),
        ],
        budget={"max_latency_ratio": 0.5, "max_size_ratio": 0.3, "max_metric_drop": 0.01},
        meets=True, missing=[], unchecked=[], digests={"model": "ab" * 32}, environment={"python": "3.11"}, seconds=9.0,
    )  # fmt: skip
    return msgspec.to_builtins(msgspec.structs.replace(made, **fields))


class Page(HTMLParser):
    """What stands on a page: its elements with their attributes, and its text; fails on an element left open."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(path.read_text())
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture
def page(tmp_path: Path) -> Any:
    def write(**fields: Any) -> Page:
        write_page(tmp_path / "report.html", "digits", report(**fields))
        return Page(tmp_path / "report.html")

    return write


def test_the_page_stands_alone_and_is_whole(page: Any) -> None:
    made = page()
    assert {"script", "link", "img", "iframe"} & {name for name, _ in made.elements} == set()
    assert not any("src" in attributes or "xlink:href" in attributes for _, attributes in made.elements)
    (policy,) = [one["content"] for one in made.all("meta") if "http-equiv" in one]
    assert policy == "default-src 'none'; style-src 'unsafe-inline'"
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in made.all("meta")
    identifiers = [attributes["id"] for _, attributes in made.elements if "id" in attributes]
    assert len(identifiers) == len(set(identifiers))


def test_it_says_first_what_was_chosen_and_whether_that_will_do(page: Any) -> None:
    summary = "Meets the budget. u8s8 on onnxruntime was chosen: accuracy 90.50% (−0.50 points), 83.0 KB"
    assert summary in page().text
    over = page(meets=False, missing=["latency 0.45 of fp32, expected at most 0.30"]).text
    assert (
        "Does not meet the budget. Missing: latency 0.45 of fp32, expected at most 0.30. Of what there is, u8s8" in over
    )
    assert "latency not measured" in page(timed=False).text
    assert "Not checked: latency: not measured" in page(unchecked=["latency: not measured"]).text
    assert "No budget was given" in page(budget={}).text


def test_every_part_of_the_report_is_there(page: Any) -> None:
    text = page().text
    for part in (
        "fp16", "skipped: no limit that it would help with", "refused: dynamic: weights refused: no MatMul",
        "not needed: an earlier rung gave what the budget asks for", "2 layers in float",
        "metric 0.1000, expected at least 0.9000", "conv1", "12.0 dB", "12 of 12 (100%)", "11 of 12 (92%)",
        "has no form there", "use Conv", "not here: pip install openvino", "1.5e-06", "0.998000", "300 items",
        "ab" * 32, "3.11", "a note", "0.45× ±2%",
    ):  # fmt: skip
        assert part in text, part


def test_who_cannot_see_the_plot_is_told_what_it_shows(page: Any) -> None:
    made = page()
    plots = [one for one in made.all("svg") if one.get("role") == "img"]
    assert len(plots) == 2  # one for each width
    identifiers = {attributes.get("id") for _, attributes in made.elements}
    for plot in plots:
        assert set((plot["aria-labelledby"] or "").split()) <= identifiers
    assert "u8s8 was chosen; on the front: fp32; u8s8." in made.text
    assert all(one.get("scope") in ("row", "col") for one in made.all("th"))
    regions = [one for one in made.all("div") if one.get("class") == "scroll"]
    assert regions and all(one["tabindex"] == "0" and one["aria-label"] for one in regions)


def test_the_plot_shows_latency_or_else_size_and_the_limits_of_the_budget(page: Any) -> None:
    timed, untimed = page().text, page(timed=False).text
    assert "latency p50, ms (log)" in timed and "at most 0.5×" in timed and "at least 90.00%" in timed
    assert "size (log)" in untimed and "at most 93.6 KB" in untimed and "this machine is no aarch64" in untimed
    assert "latency p95, ms (log)" in page(budget={"max_latency_p95": 1.0}).text


def test_what_collapsed_lies_below_the_plot_and_does_not_press_it(page: Any) -> None:
    made = page()
    shapes = [one for one in made.all("path") if one.get("class") == "dot other"]
    assert len(shapes) == 3  # one a width, and the key's
    circles = {one["cy"] for one in made.all("circle") if (one.get("class") or "").startswith("dot")}
    assert len(circles) > 3


def test_names_from_a_model_are_text(tmp_path: Path) -> None:
    evil = report(
        notes=[EVIL],
        digests={EVIL: EVIL},
        environment={EVIL: EVIL},
        layers=[LayerReport(node=EVIL, op=EVIL, snr_db=1.0)],
        targets=[TargetReport(name=EVIL, ops=1, unsupported=[Unsupported(node=EVIL, op=EVIL, why=EVIL, rewrite=EVIL)])],
        missing=[EVIL],
        meets=False,
        metric=EVIL,
        profile=EVIL,
        scheme=EVIL,
        candidates=[candidate(EVIL, 0.5, 10, 1.0, notes=[EVIL], lacks=[EVIL])],
        rungs=[RungReport(name=EVIL, title=EVIL, price_s=1.0, candidates=[EVIL], refused=[EVIL])],
    )
    write_page(tmp_path / "one.html", EVIL, evil)
    write_pages(tmp_path / "all.html", EVIL, [evil, report()])
    for name in ("one.html", "all.html"):
        assert "<script" not in (tmp_path / name).read_text()
        assert EVIL in Page(tmp_path / name).text


def test_one_row_a_profile_with_a_link_to_its_page(tmp_path: Path) -> None:
    reports = [report(), report(profile="browser", timed=False, meets=False, missing=["size 0.27 of fp32"])]
    write_pages(tmp_path / "report.html", "digits", reports)
    made = Page(tmp_path / "report.html")
    assert [one["href"] for one in made.all("a")] == ["raspberry-pi-5/report.html", "browser/report.html"] * 2
    assert "1 of 2 meet the budget" in made.text and "no: size 0.27 of fp32" in made.text


@given(st.text(), st.text())
def test_whatever_is_given_comes_back_as_text(text: str, value: str) -> None:
    text, value = (one.replace("\r", "").replace("\0", "") for one in (text, value))
    parser = HTMLParser(convert_charrefs=True)
    seen: list[Any] = []
    parser.handle_starttag = lambda tag, attrs: seen.append((tag, attrs))  # type: ignore[method-assign]
    parser.handle_data = lambda data: seen.append(data)  # type: ignore[method-assign]
    parser.feed(tag("p", text, title=value))
    parser.close()
    assert seen[0] == ("p", [("title", value)])
    assert "".join(seen[1:]) == text
    assert tag("p", Html("<b>x</b>"), None, class_=None) == "<p><b>x</b></p>"


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6), st.integers(3, 8))
def test_ticks_are_few_and_inside(low: float, span: float, count: int) -> None:
    found = ticks(low, low + span, count)
    slack = 1e-6 * max(abs(low), span)
    assert 1 <= len(found) <= count + 1
    assert all(low - slack <= value <= low + span + slack for value in found)


@given(st.floats(-4, 6), st.floats(0.05, 6))
def test_a_log_axis_always_has_ticks(low: float, decades: float) -> None:
    found = log_ticks(low, low + decades)
    assert 1 <= len(found) <= 24 and found == sorted(found)
    assert all(low - 1e-6 <= math.log10(value) <= low + decades + 1e-6 for value in found)
