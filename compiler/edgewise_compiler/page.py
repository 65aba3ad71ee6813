"""The report as a page for people: ``report.html`` of one profile, and one over several profiles.

Rules that hold here:
- a page stands alone: styles and plots are in it, it has no script and asks no network for anything;
- what comes from a model or a file is text: ``markup`` escapes it;
- a figure that a plot shows stands in a table too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec

from edgewise_compiler import ladder
from edgewise_compiler.figures import drawing, drawn, key
from edgewise_compiler.markup import Html, Part, join, tag
from edgewise_compiler.report import CandidateReport, Report, RungReport, TargetReport
from edgewise_compiler.words import against, amount, milliseconds, size_of, source_latency, summary

LOW_SNR_DB = 20.0
"""Below this a layer's bar is marked: a tenth of the signal's amplitude is noise."""
POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def write_page(path: Path, model: str, report: dict[str, Any]) -> None:
    """The page of one profile. ``report``: a ``Report`` as builtins. Raises OSError."""
    told = msgspec.convert(report, Report)
    body = join(
        _head(model, told),
        _front(told),
        _rungs(told),
        _candidates(told),
        _layers(told),
        _coverage(told),
        _fidelity(told),
        _origin(told),
    )
    _write(path, f"{model} for {told.profile}", body)


def write_pages(path: Path, model: str, reports: list[dict[str, Any]]) -> None:
    """The page over several profiles; each one's own lies beside it, in PROFILE/report.html. Raises OSError."""
    told = [msgspec.convert(report, Report) for report in reports]
    good = sum(report.meets for report in told)
    judged = f"all {len(told)} meet the budget" if good == len(told) else f"{good} of {len(told)} meet the budget"
    body = join(
        tag(
            "header",
            tag("h1", f"{model} for {len(told)} device profiles"),
            tag("p", f"Compiled in one request: {judged}.", class_="summary"),
        ),
        _profiles(told),
        tag(
            "section",
            tag("h2", "The front of each"),
            key(),
            tag("div", *(_small(report, number) for number, report in enumerate(told)), class_="small"),
        ),
    )
    _write(path, f"{model} for {len(told)} device profiles", body)


def _write(path: Path, title: str, body: Html) -> None:
    style = Html(files("edgewise_compiler").joinpath("page.css").read_text(encoding="utf-8"))
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", f"{title} · Edgewise"),
        tag("style", style),
    )
    page = join(Html("<!doctype html>\n"), tag("html", head, tag("body", tag("main", body)), lang="en"), Html("\n"))
    path.write_bytes(page.encode("utf-8", "replace"))


def _section(title: str, note: str, *parts: Part) -> Html:
    return tag("section", tag("h2", title), tag("p", note, class_="note") if note else None, *parts)


def _table(label: str, columns: Sequence[str], rows: Iterable[Html], class_: str | None = None) -> Html:
    """``#`` after a column's name: numbers. The region scrolls by keyboard where it is too narrow."""
    head = [tag("th", name.rstrip("#"), scope="col", class_="num" if name.endswith("#") else None) for name in columns]
    table = tag("table", tag("thead", tag("tr", *head)), tag("tbody", *rows), class_=class_)
    return tag("div", table, class_="scroll", tabindex=0, role="region", aria_label=label)


def _row(first: Part, *cells: Html, class_: str | None = None, name: bool = False) -> Html:
    return tag("tr", tag("th", first, scope="row", class_="name" if name else None), *cells, class_=class_)


def _number(text: Part) -> Html:
    return tag("td", text, class_="num")


def _words(*lines: Part) -> Html:
    return tag("td", *(tag("p", line) for line in lines), class_="words")


def _facts(items: Iterable[tuple[str, Part]]) -> Html:
    return tag("dl", *(join(tag("dt", name), tag("dd", value)) for name, value in items), class_="facts")


def _head(model: str, report: Report) -> Html:
    meets, rest = summary(report)
    chosen = _chosen(report)
    base, mine = source_latency(report), chosen.latency
    tiles: list[tuple[str, str, str]] = [
        (
            report.metric,
            amount(report.metric, report.metric_after),
            f"source {amount(report.metric, report.metric_before)}",
        ),
        ("size", size_of(report.size_after), against(report.size_after, report.size_before)),
    ]
    if mine is None:
        tiles.append(("latency", "not measured", report.not_measured or f"{report.target} does not run here"))
    else:
        tiles.append(("latency p50", milliseconds(mine.p50_ms), against(mine.p50_ms, base.p50_ms if base else None)))
        tiles.append(("peak memory", f"{mine.peak_rss_mb:.0f} MB", "the process, with Python and the runtime"))
    return join(
        tag(
            "header",
            tag("h1", f"{model} for {report.profile}"),
            tag("p", tag("strong", meets, class_="ok" if report.meets else "bad"), " ", rest, class_="summary"),
        ),
        tag(
            "dl",
            *(
                tag("div", tag("dt", name), tag("dd", value, tag("small", small)), class_="tile")
                for name, value, small in tiles
            ),
            class_="tiles",
        ),
    )


def _front(report: Report) -> Html:
    caption = drawn(report)
    wide = tag("div", drawing(report, name="front-wide", width=1000, height=430), class_="wide")
    narrow = tag("div", drawing(report, name="front-narrow", width=360, height=330), class_="narrow")
    return _section("What there is to choose from", "", key(), tag("figure", wide, narrow, tag("figcaption", caption)))


def _rungs(report: Report) -> Html:
    tried = {rung.name for rung in report.rungs}
    by_name = {candidate.name: candidate for candidate in report.candidates}
    rows = [_rung(number, rung, report, by_name) for number, rung in enumerate(report.rungs, 1)]
    for number, rung in enumerate((one for one in ladder.RUNGS if one.name not in tried), len(rows) + 1):
        left = tag("td", tag("span", "not needed", class_="muted"), ": an earlier rung gave what the budget asks for")
        rows.append(_row(_step(number, rung.name, rung.title), _number("–"), left, name=True))
    return _section(
        "Rungs",
        f"Cheap ones first; {report.seconds:.1f} s since the request began. A price is the work as it was when done: "
        "what the cache had costs nothing now.",
        _table("Rungs of the ladder", ["rung", "price#", "result"], rows),
    )


def _rung(number: int, rung: RungReport, report: Report, by_name: dict[str, CandidateReport]) -> Html:
    lines: list[Part] = []
    if rung.skipped is not None:
        lines.append(join(tag("span", "skipped", class_="muted"), f": {rung.skipped}"))
    for name in rung.candidates:
        made = by_name[name]
        figure = amount(report.metric, made.metric)
        state = (
            tag("span", "meets the budget", class_="ok")
            if not made.lacks
            else tag("span", "; ".join(made.lacks), class_="warn")
        )
        lines.append(join(tag("strong", name), f" {figure}, {size_of(made.size)}: ", state))
    lines += [join(tag("span", "refused", class_="bad"), f": {reason}") for reason in rung.refused]
    if not lines:
        lines.append(tag("span", "no candidate: no target of this profile has one here", class_="muted"))
    price = f"{rung.price_s:.1f} s" if rung.skipped is None else "–"
    return _row(_step(number, rung.name, rung.title), _number(price), _words(*lines), name=True)


def _step(number: int, name: str, title: str) -> Html:
    return join(f"{number}. {name}", tag("small", title))


def _candidates(report: Report) -> Html:
    base = source_latency(report)
    rows = [
        _row(
            "source, fp32",
            tag("td", "onnxruntime" if base else "–"),
            _number(amount(report.metric, report.metric_before)),
            _number(size_of(report.size_before)),
            _number(milliseconds(base.p50_ms) if base else "–"),
            _number(milliseconds(base.p95_ms) if base else "–"),
            _number("1.00×" if base else "–"),
            _number("–"),
            _words("what every ratio is to"),
        )
    ]
    for one in report.candidates:
        timed = one.latency
        standing = "chosen" if one.name == report.scheme else "on the front" if one.on_front else ""
        told = [*([standing] if standing else []), *one.lacks, *one.notes]
        if one.nonfinite:
            told.append(f"{one.nonfinite} answers are NaN or infinite")
        ratio = f"{timed.p50_ms / base.p50_ms:.2f}× ±{100 * timed.spread:.0f}%" if timed and base else "–"
        rows.append(
            _row(
                one.name,
                tag("td", one.target),
                _number(amount(report.metric, one.metric)),
                _number(size_of(one.size)),
                _number(milliseconds(timed.p50_ms) if timed else "–"),
                _number(milliseconds(timed.p95_ms) if timed else "–"),
                _number(ratio),
                _number(f"{one.price_s:.1f} s"),
                _words(*told),
                class_="chosen" if one.name == report.scheme else None,
            )
        )
    columns = ["candidate", "target", f"{report.metric}#", "size#", "p50#", "p95#", "to source#", "price#", "notes"]
    return _section(
        "Candidates",
        "Latency is one item at a time, in the runtime that the device uses. After ±, how far its rounds differ: a "
        "gain inside that is no gain.",
        _table("Candidates", columns, rows, "many"),
    )


def _layers(report: Report) -> Html:
    if not report.layers:
        return join()
    longest = max(max(layer.snr_db for layer in report.layers), LOW_SNR_DB)
    rows = [
        _row(
            layer.node,
            tag("td", layer.op),
            _number(f"{layer.snr_db:.1f} dB"),
            tag(
                "td",
                tag("span", style=f"width:{max(0.0, 100 * layer.snr_db / longest):.1f}%"),
                class_="bar",
                aria_hidden="true",
            ),
            class_="low" if layer.snr_db < LOW_SNR_DB else None,
            name=True,
        )
        for layer in report.layers
    ]
    return _section(
        "Layers",
        "The model's signal-to-noise ratio when this layer alone is int8, the most sensitive first. Below "
        f"{LOW_SNR_DB:.0f} dB a bar has another colour.",
        _table("Layers by signal-to-noise ratio", ["layer", "operator", "SNR#", ""], rows, "bars"),
    )


def _coverage(report: Report) -> Html:
    rows = [_target(target) for target in report.targets]
    parts: list[Part] = [_table("Targets", ["target", "operators", "state"], rows)]
    for target in report.targets:
        if target.unsupported:
            parts.append(tag("h3", f"What {target.name} cannot take"))
            nodes = [
                _row(one.node, tag("td", one.op), _words(one.why), _words(one.rewrite or "–"), name=True)
                for one in target.unsupported
            ]
            parts.append(
                _table(f"Nodes that {target.name} cannot take", ["node", "operator", "why", "write instead"], nodes)
            )
    return _section("Targets of this profile", "In the profile's order of preference.", *parts)


def _target(target: TargetReport) -> Html:
    if target.missing is not None:
        return _row(
            target.name, tag("td", "–"), _words(join(tag("span", "not here", class_="warn"), f": {target.missing}"))
        )
    cannot = len(target.unsupported)
    covered = f"{target.ops - cannot} of {target.ops}" + (
        f" ({100 * (target.ops - cannot) / target.ops:.0f}%)" if target.ops else ""
    )
    state = (
        tag("span", "takes the model", class_="ok")
        if not cannot
        else tag("span", "cannot take the model", class_="bad")
    )
    return _row(target.name, tag("td", covered), _words(state))


def _fidelity(report: Report) -> Html:
    chosen = _chosen(report)
    export = (
        "nothing was exported: the file itself was compiled"
        if report.parity is None
        else f"{report.parity:.1e}, the largest relative difference"
    )
    items: list[tuple[str, Part]] = [
        ("source against its export", export),
        ("judged on", f"{report.items:,} items of the reference"),
    ]
    names = {
        "agreement": "same top class as the source",
        "cosine": "cosine to the source's outputs",
        "snr_db": "signal-to-noise ratio",
    }
    for name, value in chosen.figures.items():
        shown = f"{value:.1f} dB" if name == "snr_db" else f"{value:.6f}" if name == "cosine" else amount(name, value)
        items.append((names.get(name, name), shown))
    if chosen.nonfinite:
        items.append(("answers that are NaN or infinite", chosen.nonfinite))
    return _section("Parity and fidelity", f"{chosen.name} against the source, on the same real inputs.", _facts(items))


def _origin(report: Report) -> Html:
    notes = [*report.notes, *report.unchecked]
    environment: list[tuple[str, Part]] = [("runtime", report.runtime), *report.environment.items()]
    parts: list[Part] = []
    if notes:
        parts += [tag("h3", "Notes"), tag("ul", *(tag("li", note) for note in notes), class_="notes")]
    parts += [tag("h3", "Made with"), _facts(environment)]
    parts += [
        tag("h3", "Made from (sha256)"),
        _facts((name, tag("code", value)) for name, value in report.digests.items()),
    ]
    return _section("Environment and digests", "", *parts)


def _profiles(reports: list[Report]) -> Html:
    rows = []
    for report in reports:
        chosen, base = _chosen(report), source_latency(report)
        timed = chosen.latency
        link = tag("a", report.profile, href=f"{quote(report.profile)}/report.html")
        state = (
            tag("span", "yes", class_="ok")
            if report.meets
            else join(tag("span", "no", class_="bad"), f": {'; '.join(report.missing)}")
        )
        rows.append(
            _row(
                link,
                tag("td", report.target),
                tag("td", report.scheme),
                _number(
                    f"{amount(report.metric, report.metric_before)} → {amount(report.metric, report.metric_after)}"
                ),
                _number(f"{size_of(report.size_after)} ({report.size_after / max(report.size_before, 1):.2f}×)"),
                _number(milliseconds(timed.p50_ms) if timed else "not measured"),
                _number(f"{timed.p50_ms / base.p50_ms:.2f}×" if timed and base else "–"),
                _words(state),
            )
        )
    metric = reports[0].metric
    columns = ["profile", "target", "chosen", f"{metric}#", "size#", "p50#", "to source#", "meets the budget"]
    return _section("Profiles", "Each links to its own page.", _table("Profiles", columns, rows))


def _small(report: Report, number: int) -> Html:
    plot = drawing(report, name=f"front-{number}", width=320, height=240, labels=False)
    link = tag("a", report.profile, href=f"{quote(report.profile)}/report.html")
    return tag("figure", plot, tag("figcaption", link, f": {report.scheme}"))


def _chosen(report: Report) -> CandidateReport:
    return next(one for one in report.candidates if one.name == report.scheme)
