"""How samples become medians, ratios, words and tables."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks import chart, report, results
from benchmarks.results import BASELINE
from benchmarks.targets import TARGETS

NATIVE = "qfilter native, 1,000 header rules"
ROUNDS = [
    {
        BASELINE: {"kpps": 200.0, "cpu_ns": 1_000.0, "idle_before": 1.0},
        NATIVE: {"sent": 4_000, "delivered": 3_000, "kpps": 190.0, "cpu_ns": 1_200.0, "idle_before": 1.0},
    },
    {
        BASELINE: {"kpps": 100.0, "cpu_ns": 1_000.0, "idle_before": 1.0},
        NATIVE: {"kpps": 98.0, "cpu_ns": 1_160.0, "idle_before": 1.0},
    },
    {
        BASELINE: {"kpps": 400.0, "cpu_ns": 1_000.0, "idle_before": 1.0},
        NATIVE: {"kpps": 392.0, "cpu_ns": None, "idle_before": 1.0},
    },
]
RUN: results.Results = {
    "network": {"rounds": ROUNDS},
    "alone": {"matcher_share 10": 0.05, "matcher_allocations": 0},
    "runs": {"network": {"kernel": "6.1", "commit": "a"}, "alone": {"kernel": "6.1", "commit": "b"}},
}


def test_a_ratio_is_taken_within_a_round() -> None:
    assert results.ratio(RUN, NATIVE, BASELINE, "kpps") == 0.98
    assert results.middle(RUN, NATIVE, "kpps") == 190.0


def test_what_was_not_measured_is_none() -> None:
    assert results.middle(RUN, NATIVE, "tcp_gbit") is None
    assert results.ratio(RUN, "nobody", BASELINE, "kpps") is None
    assert results.ratio({}, NATIVE, BASELINE, "kpps") is None
    assert results.middle(RUN, NATIVE, "cpu_ns") == 1_180.0


def test_what_arrived_stands_beside_its_share_of_what_was_sent() -> None:
    lines = report.tables(RUN).splitlines()
    assert f"| {NATIVE} | 190 | 0.98 | 3,000 (75%) | 1,180 | - | - | - | - |" in lines
    assert f"| {BASELINE} | 200 | 1.00 | - | 1,000 | - | - | - | - |" in lines


def test_what_the_sections_ran_on_is_told_once_where_it_is_the_same() -> None:
    lines = report.tables(RUN).splitlines()
    assert lines[-3:-1] == ["| kernel | 6.1 |", "| commit | network: a; alone: b |"]
    assert "### Machine" not in report.tables({})


def test_each_target_is_met_missed_or_not_measured() -> None:
    lines = report.tables(RUN).splitlines()
    work = "64-byte UDP, 1,000 header rules, the last matches"
    assert f"| {work} | rate by the C loop's | at least 0.95 | 0.98 | met |" in lines
    assert f"| {work} | CPU a packet by the C loop's | at most 1.10 | 1.18 | **missed** |" in lines
    matcher = "matcher alone, 10 rules, the flood's packets"
    assert f"| {matcher} | of the C loop's CPU a packet | at most 4.0% | 5.0% | **missed** |" in lines
    assert "| matcher alone | allocations, all packets together | at most 0 | 0 | met |" in lines
    assert "| one TCP stream, 1,000 header rules | rate by the C loop's | at least 0.97 | - | - |" in lines


def test_a_machine_that_others_used_is_told() -> None:
    busy = [*ROUNDS[:2], {BASELINE: {"kpps": 1.0, "idle_before": 0.4}}]
    assert "Medians of 3 rounds.\n" in report.tables(RUN)
    assert "\nOne round.\n" in report.tables({"network": {"rounds": ROUNDS[:1]}})
    assert "only 40% idle before one of the samples" in report.tables({"network": {"rounds": busy}})


def test_every_row_of_the_issue_is_there() -> None:
    bounds = [(target.bound.split()[1], target.value) for target in TARGETS]
    least = [0.95, 0.90, 1.7, 4, 10, 40, 0.97, 0.60, 0.90]
    most = [1.10, 1.15, 1.10, 1.25, 0.04, 0.07, 0.10, 0.04, 0.07, 0.10, 0, 0.15, 64, 3, 1.10, 0, 80, 2]
    assert [value for word, value in bounds if word == "least"] == least
    assert [value for word, value in bounds if word == "most"] == most


def test_only_what_stands_between_the_marks_changes(tmp_path: Path) -> None:
    document = tmp_path / "performance.md"
    document.write_text("before\n<!-- make bench: begin -->\nold\n<!-- make bench: end -->\nafter\n")
    report.write(RUN, document, tmp_path / "plot.svg")
    text = document.read_text()
    assert text.startswith("before\n<!-- make bench: begin -->\n")
    assert text.endswith("<!-- make bench: end -->\nafter\n")
    assert "old" not in text
    report.write(RUN, document, tmp_path / "plot.svg")
    assert document.read_text() == text


def test_the_document_has_the_tables_of_the_saved_figures(tmp_path: Path) -> None:
    document, plot = tmp_path / "performance.md", tmp_path / "performance.svg"
    document.write_text(report.DOCUMENT.read_text())
    report.write(results.read(), document, plot)
    assert document.read_text() == report.DOCUMENT.read_text()
    assert plot.read_text() == report.PLOT.read_text()


def test_a_document_without_marks_is_left_as_it_is(tmp_path: Path) -> None:
    document = tmp_path / "performance.md"
    document.write_text("mine\n")
    with pytest.raises(ValueError, match="expected the lines '<!-- make bench: begin -->'"):
        report.write(RUN, document, tmp_path / "plot.svg")
    assert document.read_text() == "mine\n"


def test_a_chart_has_a_line_for_each_series_and_a_point_for_each_x() -> None:
    series = {"C loop": {"10": 100.0, "1000": 90.0}, "nft": {"10": 90.0, "1000": 5.0}}
    drawn = ElementTree.fromstring(chart.render({"rules": series, "queues": {"C loop": {"1": 1.0}}}, "kpps"))
    name = "{http://www.w3.org/2000/svg}"
    lines = [line.attrib["points"].split() for line in drawn.iter(f"{name}polyline")]
    assert list(map(len, lines)) == [2, 2, 1]
    assert len(list(drawn.iter(f"{name}circle"))) == 5
    heights = [float(point.split(",")[1]) for point in lines[1]]
    assert heights[0] < heights[1], "a lower rate stands lower"
    texts = {text.text for text in drawn.iter(f"{name}text")}
    assert {"kpps over rules", "kpps over queues", "1,000", "C loop", "nft"} <= texts
