"""The figures as they stand in performance.json: plain dictionaries, and what is read out of them.

runs        {section: what it ran on, see `machine`, and how many rounds}; those of one run have the same date
network     {"rounds": [{subject: sample}]}      a sample is what `network.measure` gives
growth      {chart: {series: {x: kpps}}}
alone, changes     {figure: number}
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import subprocess
from collections.abc import Iterable
from pathlib import Path
from statistics import median
from typing import Any

from tests.lab.process import ROOT, LabError, run

FILE = ROOT / "docs" / "performance.json"
BASELINE = "C loop, copy 65,531"

Results = dict[str, Any]
Sample = dict[str, float | None]


def read(path: Path = FILE) -> Results:
    """What is saved, or nothing."""
    loaded: Results = json.loads(path.read_text()) if path.exists() else {}
    return loaded


def write(results: Results, path: Path = FILE) -> None:
    """Saves it, keys in the order they were measured in."""
    path.write_text(json.dumps(results, indent=1) + "\n")


def middle(results: Results, subject: str, figure: str) -> float | None:
    """The median over the rounds of a subject's figure; None when nobody measured it."""
    return _median(sample.get(figure) for sample in _samples(results, subject))


def ratio(results: Results, subject: str, other: str, figure: str, by: str | None = None) -> float | None:
    """The median over the rounds of a figure of one subject by that of another, or by its `by`, in the same round."""
    rounds = results.get("network", {}).get("rounds", [])
    present = (each for each in rounds if subject in each and other in each)
    pairs = ((each[subject].get(figure), each[other].get(by or figure)) for each in present)
    return _median(mine / its if mine is not None and its else None for mine, its in pairs)


def subjects(results: Results) -> list[str]:
    """Who was measured, in order."""
    return list(dict.fromkeys(name for each in results.get("network", {}).get("rounds", []) for name in each))


def same(results: Results) -> dict[str, dict[str, list[str]]]:
    """What the sections ran on: {what: {which: [section, ...]}}."""
    found: dict[str, dict[str, list[str]]] = {}
    for section, run_ in results.get("runs", {}).items():
        for what, which in run_.items():
            found.setdefault(what, {}).setdefault(f"{which}", []).append(section)
    return found


def machine() -> dict[str, str]:
    """What a reader must know about the machine and the tools, now."""
    cpu = next(
        line.partition(":")[2] for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line
    )
    memory = next(line.split()[1] for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemT"))
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": _said("git", "-C", str(ROOT), "describe", "--always", "--dirty"),
        "processor": f"{os.cpu_count()} x{cpu}",
        "memory": f"{int(memory) / 2**20:.0f} GiB",
        "kernel": f"{platform.release()} {platform.machine()}",
        "system": platform.freedesktop_os_release()["PRETTY_NAME"],
        "load before": f"{os.getloadavg()[0]:.2f}",
        "compiler": _said("cc", "--version"),
        "rust": _said("rustc", "--version"),
        "python": platform.python_version(),
        "iptables": _said("iptables-legacy", "--version"),
        "nft": _said("nft", "--version"),
        "iperf3": _said("iperf3", "--version"),
    }


def _samples(results: Results, subject: str) -> list[Sample]:
    return [each[subject] for each in results.get("network", {}).get("rounds", []) if subject in each]


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None


def _said(*command: str) -> str:
    """The first line of what a tool says about itself."""
    try:
        return run(command).stdout.splitlines()[0]
    except (LabError, FileNotFoundError, subprocess.SubprocessError):
        return "not there"
