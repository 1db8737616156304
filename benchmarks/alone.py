"""What needs no traffic: loading and compiling, a large set, the matcher by itself, replay."""

from __future__ import annotations

import json
import struct
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median

from benchmarks import policies, subjects
from benchmarks.arena import Arena, Usage
from benchmarks.build import SCRATCH, example
from benchmarks.results import Results
from benchmarks.subjects import Subject
from tests.lab.process import LabError, run
from tests.lab.service import qfilter

Say = Callable[[str], None]

MATCHER_RULES = (10, 1_000, 10_000)
ENGINES = ("native", "reference")

_HEADER = struct.Struct("=IHHiIII")
_RECORD = struct.Struct("=IIII")
_IPV4 = struct.Struct("!BBHHHBBHII")
_UDP = struct.Struct("!HHHH")
_ETHERNET = bytes.fromhex("020000000101 020000000102 0800")


def measure(
    rounds: int,
    say: Say,
    *,
    packets: int = 1_000_000,
    entries: int = 1_000_000,
    rules: int = 10_000,
    examples: bool = True,
) -> Results:
    """The section `alone` of the results.

    Without `examples` nothing is compiled, which takes minutes.
    """
    results: Results = {}
    for part in (
        compiling(rounds, rules),
        matcher(rounds) if examples else {},
        *(large_set(which, rounds, entries) for which in ENGINES),
        *(replaying(which, rounds, packets) for which in ENGINES),
    ):
        results |= part
        for figure, value in part.items():
            say(f"{figure}: {value:,.3f}")
    return results


def compiling(rounds: int, rules: int) -> Results:
    """Seconds to load header rules, to make their plan, to make its index; both by the first: `compile_share`."""
    times = [_load(policies.header(rules))[0] for _ in range(rounds)]
    steps = {f"{step}_s": median(each[step] for each in times) for step in ("load", "plan", "index")}
    return steps | {"compile_share": median((each["plan"] + each["index"]) / each["load"] for each in times)}


def large_set(which: str, rounds: int, entries: int) -> Results:
    """What a set of so many addresses costs `qfilter run`, beside a set of one: seconds until it serves, and memory."""
    seconds, memory = [], []
    one, many = (subjects.engine(which, "", policies.header(10, count)) for count in (1, entries))
    with Arena() as arena:
        for _ in range(rounds):
            small, large = _started(arena, one), _started(arena, many)
            seconds.append(large[0] - small[0])
            memory.append(large[1] - small[1])
    return {f"set_s {which}": median(seconds), f"set_mib {which}": median(memory)}


def matcher(rounds: int) -> Results:
    """Nanoseconds to decode and decide one packet, by numbers of header rules, as a share of the C loop's CPU beside.

    The example `decide` of native/core gets plan documents and prints a line of figures for each: of the flood's
    packets, and of packets that all differ. The C loop is flooded in the same round.
    """
    documents = [str(_load(policies.header(count))[1]) for count in MATCHER_RULES]
    command = [example("qfilter-core", "decide"), *documents]
    measured = []
    with Arena() as arena:
        for _ in range(rounds):
            lines = map(json.loads, run(command, timeout=300.0).stdout.splitlines())
            decided = dict(zip(MATCHER_RULES, lines, strict=True))
            measured.append((decided, _loop_cpu(arena)))
    results: Results = {"matcher_loop_ns": median(loop for _, loop in measured)}
    for rules in MATCHER_RULES:
        each = [(decided[rules], loop) for decided, loop in measured]
        results[f"matcher_ns {rules}"] = median(found["ns"] for found, _ in each)
        results[f"matcher_changing_ns {rules}"] = median(found["changing_ns"] for found, _ in each)
        results[f"matcher_share {rules}"] = median(found["ns"] / loop for found, loop in each)
        results[f"matcher_changing_share {rules}"] = median(found["changing_ns"] / loop for found, loop in each)
    results["matcher_allocations"] = max(found["allocations"] for decided, _ in measured for found in decided.values())
    return results


def replaying(which: str, rounds: int, packets: int) -> Results:
    """Seconds of `qfilter replay`, which writes a line for every packet, and of tcpdump on the same capture with the
    same filter: writing a line for each that it selects, and only counting them. Both select as many."""
    policy, chosen = policies.capture()
    capture = _capture(packets)
    tcpdump = ["tcpdump", "-n", "-r", str(capture), chosen]
    writing, counting, ours = [], [], []
    # Of the reference engine once is enough: it takes minutes.
    for _ in range(rounds if which == "native" else 1):
        seconds, told = _timed(tcpdump)
        writing.append(seconds)
        seconds, counted = _timed([*tcpdump, "--count"])
        counting.append(seconds)
        selected = told.count("\n")
        if f"{selected} packet" not in counted:
            raise LabError(f"tcpdump writes {selected} packets and counts: {counted}")
        seconds, told = _timed(qfilter("replay", policy, capture, "--engine", which))
        ours.append(seconds)
        if f"{selected:,} accept" not in told:
            raise LabError(f"tcpdump selects {selected} packets, replay says:\n{told[-1_000:]}")
    return {
        f"replay_s {which}": median(ours),
        f"tcpdump_s {which}": median(writing),
        f"tcpdump_count_s {which}": median(counting),
    }


def _timed(command: Sequence[str]) -> tuple[float, str]:
    """Seconds until a command ends, and its standard output."""
    start = time.perf_counter()
    told = run(command, timeout=1_200.0).stdout
    return time.perf_counter() - start, told


def _started(arena: Arena, subject: Subject) -> tuple[float, float]:
    """Seconds until a consumer serves, and its resident memory in MiB then."""
    start = time.perf_counter()
    with subject.place(arena) as pids:
        return time.perf_counter() - start, Usage.of(pids).resident_mib


def _loop_cpu(arena: Arena) -> float:
    """Nanoseconds of CPU that the C loop needs for a packet of the flood."""
    with subjects.c_loop().place(arena) as pids:
        spent = arena.flood(pids).cpu_ns
    if not spent:
        raise LabError(f"the C loop's time for a packet is {spent} ns: expected more than none")
    return spent


def _load(policy: Path) -> tuple[dict[str, float], Path]:
    """Seconds of the steps from a policy to what judges, see loading.py, and the plan document."""
    document = policy.with_suffix(".plan")
    told = run([sys.executable, "-m", "benchmarks.loading", str(policy), str(document)], timeout=600.0)
    return json.loads(told.stdout), document


def _capture(packets: int) -> Path:
    """A pcap of that many small UDP packets on Ethernet; a fourth is selected by `policies.capture`."""
    path = SCRATCH / f"capture-{packets}.pcap"
    if not path.exists():
        with path.open("wb") as file:
            file.write(_HEADER.pack(0xA1B2C3D4, 2, 4, 0, 0, 65_535, 1))
            file.writelines(_records(packets))
    return path


def _records(packets: int) -> Iterator[bytes]:
    for number in range(packets):
        source = 10 << 24 | (number % 8) << 16 | number & 0xFFFF
        port = 53 if number // 8 % 2 else 443
        packet = _ETHERNET + _ipv4(source) + _UDP.pack(40_000, port, 26, 0) + bytes(18)
        yield _RECORD.pack(1_700_000_000 + number // 100_000, number % 100_000 * 10, len(packet), len(packet)) + packet


def _ipv4(source: int) -> bytes:
    """A header with its checksum (RFC 791)."""
    fields = [0x45, 0, 46, 0, 0, 64, 17, 0, source, 0xC6336402]
    total = sum(struct.unpack("!10H", _IPV4.pack(*fields)))
    total = (total & 0xFFFF) + (total >> 16)
    fields[7] = ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF
    return _IPV4.pack(*fields)
