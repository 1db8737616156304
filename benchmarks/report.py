"""Results as Markdown tables between two marks of docs/performance.md, and as the plot beside it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from benchmarks.chart import render
from benchmarks.results import BASELINE, Results, middle, ratio, same, subjects
from benchmarks.targets import TARGETS
from tests.lab.process import ROOT

DOCUMENT = ROOT / "docs" / "performance.md"
PLOT = ROOT / "docs" / "performance.svg"
_BEGIN, _END = "<!-- make bench: begin -->", "<!-- make bench: end -->"
_NONE = "-"
_IDLE = 0.9
_WORDS = {
    "load_s": "load 10,000 header rules, s",
    "plan_s": "compile them: the plan document, s",
    "index_s": "compile them: the index of that, s",
    "compile_share": "compile by load",
    "matcher_loop_ns": "CPU of the C loop a packet, ns, beside the next",
    "matcher_ns": "decode and decide a packet of the flood, ns, by header rules",
    "matcher_changing_ns": "decode and decide one of 65,536 that all differ, ns, by header rules",
    "matcher_share": "one of the flood by the C loop's, by header rules",
    "matcher_changing_share": "one of those that differ by the C loop's, by header rules",
    "matcher_allocations": "allocations for all of these packets together",
    "set_s": "1,000,000 addresses: longer until `run` serves, s",
    "set_mib": "1,000,000 addresses: more memory of `run`, MiB",
    "replay_s": "`replay` of 1,000,000 packets, s",
    "tcpdump_s": "`tcpdump -r` of the same with the same filter, which writes a fourth of the packets, s, beside",
    "tcpdump_count_s": "`tcpdump -r --count`, which writes nothing, s, beside",
    "reload_lost": "20 reloads under flood: packets lost or judged by a mix",
    "live_set_p99": "p99 while a set of 1,000,000 changes by p99 at rest",
}


def write(results: Results, document: Path = DOCUMENT, plot: Path = PLOT) -> None:
    """Puts the tables between the marks and draws the plot."""
    before, _, rest = document.read_text().partition(_BEGIN)
    _, mark, after = rest.partition(_END)
    if not mark:
        raise ValueError(f"{document}: expected the lines '{_BEGIN}' and '{_END}'")
    document.write_text(f"{before}{_BEGIN}\n{tables(results)}{_END}{after}")
    if "growth" in results:
        plot.write_text(render({label: results["growth"][label] for label in results["growth"]}, "thousand packets/s"))


def tables(results: Results) -> str:
    """Everything that was measured, in Markdown."""
    parts = [_targets(results), _subjects(results), _alone(results), _growth(results), _machine(results)]
    return "".join(f"\n{part}" for part in parts if part) + "\n"


def _targets(results: Results) -> str:
    rows = []
    for target in TARGETS:
        measured = target.reading(results)
        word = _NONE if measured is None else "met" if target.reached(measured) else "**missed**"
        rows.append([target.work, target.figure, target.goal, _form(target.form, measured), word])
    return "### To reach\n\n" + _table(["work", "figure", "to reach", "measured", "word"], rows)


def _subjects(results: Results) -> str:
    names = subjects(results)
    if not names:
        return ""
    rows = []
    for name in names:
        figures = ("kpps", "cpu_ns", "resident_mib", "tcp_gbit", "p50_us", "p99_us")
        kpps, cpu, memory, stream, p50, p99 = (middle(results, name, figure) for figure in figures)
        share = ratio(results, name, BASELINE, "kpps")
        rate, nanoseconds = _significant(kpps), _form("{:,.0f}", cpu)
        cells = [_form("{:.2f}", share), _delivered(results, name), nanoseconds, _form("{:.1f}", memory)]
        rows.append([name, rate, *cells, _significant(stream), _form("{:.0f}", p50), _form("{:.0f}", p99)])
    rounds = results["network"]["rounds"]
    least = min(sample["idle_before"] for each in rounds for sample in each.values())
    head = ["who decides", "kpps", f"by {BASELINE}", "delivered", "CPU ns", "MiB", "TCP Gbit/s", "p50 µs", "p99 µs"]
    return f"### All subjects\n\n{_quiet(len(rounds), least)}\n\n" + _table(head, rows)


def _delivered(results: Results, name: str) -> str:
    """How many packets of the flood arrived, and their share of those that were sent."""
    count, share = middle(results, name, "delivered"), ratio(results, name, name, "delivered", "sent")
    return _NONE if count is None else f"{count:,.0f} ({_form('{:.0%}', share)})"


def _quiet(rounds: int, least: float) -> str:
    text = "One round." if rounds == 1 else f"Medians of {rounds} rounds."
    if least >= _IDLE:
        return text
    return f"{text} **Others used the machine meanwhile**: it was only {least:.0%} idle before one of the samples."


def _alone(results: Results) -> str:
    found = results.get("alone", {}) | results.get("changes", {})
    rows = [[_named(figure), f"{value:,.3f}"] for figure, value in found.items()]
    return "### By themselves\n\n" + _table(["figure", "value"], rows) if rows else ""


def _named(figure: str) -> str:
    """`replay_s native` in words."""
    key, _, more = figure.partition(" ")
    return f"{_WORDS[key]}, {more}" if more else _WORDS[key]


def _growth(results: Results) -> str:
    parts = []
    for label, series in results.get("growth", {}).items():
        columns = list(dict.fromkeys(x for line in series.values() for x in line))
        rows = [[name, *(_significant(line.get(x)) for x in columns)] for name, line in series.items()]
        parts.append(_table([f"kpps over {label}", *(f"{int(x):,}" for x in columns)], rows))
    return "### Growth\n\n![the tables below as lines](performance.svg)\n\n" + "\n".join(parts) if parts else ""


def _machine(results: Results) -> str:
    rows = [[what, _which(found)] for what, found in same(results).items()]
    return "### Machine\n\n" + _table(["what", "which"], rows) if rows else ""


def _which(found: Mapping[str, Sequence[str]]) -> str:
    """What all sections say, or what each does."""
    if len(found) == 1:
        return next(iter(found))
    return "; ".join(f"{', '.join(sections)}: {which}" for which, sections in found.items())


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def _significant(value: float | None) -> str:
    return _form("{:,.0f}" if value is None or value >= 100 else "{:.3g}", value)


def _form(form: str, value: float | None) -> str:
    return _NONE if value is None else form.format(value)
