"""`sudo make run`: qfilter between a client and a server, each verdict shown as it falls.

    python -m tests.lab.demo

Exit code 0 when every client saw what rules/demo.yaml promises, 1 when one did not or something broke, 2 without what
it needs (root, namespaces, NFQUEUE), 130 after Ctrl-C. Nothing is left in any case.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import AbstractContextManager
from pathlib import Path
from types import FrameType

from tests.lab.demo_steps import Step, services, steps
from tests.lab.probes import State, probe
from tests.lab.process import ROOT, LabError, Running, without_colours
from tests.lab.service import serving
from tests.lab.topology import Lab

POLICY = ROOT / "rules" / "demo.yaml"


class Screen:
    """Who says what: lines of the client and of qfilter come from two threads and never mix within a line."""

    def __init__(self, colours: bool) -> None:
        self._colours = colours

    def client(self, text: str) -> None:
        self._line("36", "client ", text)

    def qfilter(self, text: str) -> None:
        self._line("33", "qfilter", text if self._colours else without_colours(text))

    def lab(self, text: str) -> None:
        self._line("2", "lab    ", text)

    def _line(self, colour: str, who: str, text: str) -> None:
        head = f"\033[{colour}m{who}\033[0m" if self._colours else who
        sys.stdout.write(f"{head} | {text}\n")
        sys.stdout.flush()


def main() -> int:
    if problem := _missing():
        sys.stderr.write(f"qfilter demo: {problem}\n")
        return 2
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _leave)
    screen = Screen(sys.stdout.isatty() and "NO_COLOR" not in os.environ)
    try:
        failures = _show(screen)
    except KeyboardInterrupt:
        screen.lab("interrupted; everything is removed")
        return 130
    except (LabError, OSError) as error:
        # What follows the first line is qfilter's output, which stands above already.
        first = f"{error}".partition("\n")[0]
        sys.stderr.write(f"qfilter demo: {first}\nqfilter demo: failed; everything is removed\n")
        return 1
    for failure in failures:
        sys.stderr.write(f"qfilter demo: {failure}\n")
    screen.lab("everything is removed; " + ("not as promised" if failures else "all as rules/demo.yaml promises"))
    return 1 if failures else 0


def _missing() -> str:
    for name in ("root", "netns", "ipv6", "nfqueue", "ping", "curl"):
        finding = probe(name)
        if finding.state is not State.WORKS:
            hint = ": run `sudo make run`" if name == "root" and os.geteuid() else ""
            return f"{finding.why}{hint}" if name == "root" else f"{name} is {finding}"
    return ""


def _leave(number: int, _: FrameType | None) -> None:
    # The way out is by exception, so that every `with` removes what it made.
    sys.exit(128 + number)


def _show(screen: Screen) -> list[str]:
    with Lab() as lab:
        screen.lab("client 192.0.2.2 2001:db8:1::2 - gateway - server 198.51.100.2 2001:db8:2::2, in three namespaces")
        with services(lab.server), _gateway(lab, screen) as service:
            failures = [failure for step in steps(lab) if (failure := _take(step, service, screen))]
            screen.lab("SIGTERM to qfilter")
            if code := service.stop():
                failures.append(f"qfilter ended with exit code {code}")
        if lab.gateway.queues():
            failures.append("qfilter left a bound queue")
        return failures


def _gateway(lab: Lab, screen: Screen) -> AbstractContextManager[Running]:
    policy = Path(os.path.relpath(POLICY))
    return serving(lab.gateway, policy, on_line=screen.qfilter, terminal=True)


def _take(step: Step, service: Running, screen: Screen) -> str:
    """Empty when all is as promised, else what was not."""
    screen.client(step.says)
    since = len(service.lines)
    saw = step.tries()
    shown = not step.rule or _is_shown(step, service, since)
    screen.client(f"  saw {_words(saw)}")
    if saw != step.sees:
        return f"{step.says}: expected {_words(step.sees)}, saw {_words(saw)}"
    return "" if shown else f"{step.says}: no line of qfilter says {step.verdict} by {step.rule}"


def _is_shown(step: Step, service: Running, since: int) -> bool:
    try:
        service.wait_for(step.rule, step.verdict, since=since, timeout=3.0)
    except LabError:
        if service.exit_code is not None:
            raise
        return False
    return True


def _words(seen: object) -> str:
    if not isinstance(seen, dict):
        return str(seen)
    by_state = {state: [str(port) for port, found in seen.items() if found == state] for state in seen.values()}
    return ", ".join(f"{' '.join(ports)} {state}" for state, ports in by_state.items())


if __name__ == "__main__":
    sys.exit(main())
