"""`make bench`: measures, saves docs/performance.json, and writes docs/performance.md and its plot.

    python -m benchmarks [SECTION ...] [--rounds N] [--quick] [--to FOLDER]

Sections are network, alone, changes, growth, and report, which measures nothing; without any, all of them. A section
that is not measured, or whose measuring fails, keeps the figures of an earlier run, and the report says of each what it
ran on. --quick is a smoke run, whose figures mean nothing.

Five rounds on two quiet CPUs take about 45 minutes: network 17, alone 9, changes 3, growth 12, and compiling.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks import alone, changes, growth, network, report, results
from qfilter.errors import QFilterError
from tests.lab.process import LabError

Say = Callable[[str], None]


def main() -> int:
    options = _arguments()
    folder: Path = options.to
    file = folder / results.FILE.name
    saved = results.read(file)
    machine = results.machine()
    failed = False
    for section in options.sections or [*_SECTIONS, "report"]:
        try:
            if section == "report":
                report.write(saved, folder / report.DOCUMENT.name, folder / report.PLOT.name)
                continue
            start = time.monotonic()
            rounds = min(options.rounds, growth.MOST_ROUNDS) if section == "growth" else options.rounds
            saved[section] = _SECTIONS[section](rounds, options.quick)
            saved.setdefault("runs", {})[section] = machine | {"rounds": rounds}
            _say(f"{section}: {time.monotonic() - start:.0f} s")
            results.write(saved, file)
        except (LabError, QFilterError, OSError) as error:
            sys.stderr.write(f"benchmarks: {section}: {error}\n")
            failed = True
    return int(failed)


def _network(rounds: int, quick: bool) -> results.Results:
    return network.run(rounds, _say, quick=quick)


def _alone(rounds: int, quick: bool) -> results.Results:
    if quick:
        return alone.measure(rounds, _say, packets=1_000, entries=1_000, rules=100, examples=False)
    return alone.measure(rounds, _say)


def _changes(rounds: int, quick: bool) -> results.Results:
    return changes.measure(rounds, _say, entries=1_000) if quick else changes.measure(rounds, _say)


def _growth(rounds: int, quick: bool) -> results.Results:
    return growth.run(rounds, _say, [each for each in growth.points() if each.x <= 100] if quick else None)


_SECTIONS: dict[str, Callable[[int, bool], results.Results]] = {
    "network": _network,
    "alone": _alone,
    "changes": _changes,
    "growth": _growth,
}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=", ".join([*_SECTIONS, "report"]))
    parser.add_argument(
        "--rounds",
        type=int,
        default=5,
        help=f"how often all is measured, growth at most {growth.MOST_ROUNDS} times",
    )
    parser.add_argument("--quick", action="store_true", help="a smoke run: its figures mean nothing")
    parser.add_argument("--to", type=Path, default=results.FILE.parent, help="the folder of performance.*")
    options = parser.parse_args()
    if unknown := set(options.sections) - {*_SECTIONS, "report"}:
        parser.error(f"{', '.join(sorted(unknown))!r}: expected {', '.join([*_SECTIONS, 'report'])}")
    if options.sections != ["report"] and os.geteuid() != 0:
        parser.error("needs root, for network namespaces: sudo make bench")
    if options.quick and options.to == results.FILE.parent:
        parser.error("--quick: its figures are not for docs/: expected --to FOLDER")
    if not (options.to / report.DOCUMENT.name).exists():
        shutil.copy(report.DOCUMENT, options.to)
    return options


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
