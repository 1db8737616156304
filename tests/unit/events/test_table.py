"""The table of rules, as a picture."""

from __future__ import annotations

from qfilter.errors import Position
from qfilter.events.table import render
from qfilter.model.hook import Hook
from qfilter.model.report import OutcomeTally, Report, RuleTally, SetTally, Tally
from qfilter.model.verdict import ACCEPT, CAUSES, DROP, Decision, Kind, Reason, RejectWith

REJECT = Decision(Kind.REJECT, reject=RejectWith.TCP_RESET)
REPORT = Report(
    rules=(
        RuleTally("ssh", Position("web.yaml", 3, 5), ACCEPT, Tally(1_234, 98_765)),
        RuleTally("watch\x1b[2J", Position("web.yaml", 4, 5), None, Tally()),
        RuleTally("no-telnet", Position("web.yaml", 12, 5), REJECT, Tally(2, 80)),
    ),
    defaults={
        Hook.INPUT: OutcomeTally(DROP, Position("web.yaml", 2, 18), Tally(10, 400)),
        Hook.OUTPUT: OutcomeTally(ACCEPT, Position("web.yaml", 2, 32), Tally()),
    },
    causes={cause: OutcomeTally(DROP, None, Tally()) for cause in CAUSES}
    | {
        Reason.MALFORMED: OutcomeTally(DROP, None, Tally(3, 60)),
        Reason.FRAGMENT: OutcomeTally(ACCEPT, Position("web.yaml", 9, 24), Tally(4, 90)),
    },
    malformed={"tcp-flags": 3},
    verdicts={Kind.ACCEPT: Tally(1_234, 98_765), Kind.DROP: Tally(13, 460), Kind.REJECT: Tally(2, 80)},
    counters={"knocks": Tally(2, 80)},
    sets={
        "seen": SetTally(elements=2, added=1_000, refused=0),
        "full": SetTally(elements=4, added=4, refused=9),
    },
)
EMPTY = Report(rules=(), defaults={}, causes={}, malformed={}, verdicts={}, counters={}, sets={})


def test_the_table() -> None:
    assert render(REPORT, losses=["queue 0: socket_full 3"]).splitlines() == [
        "rule               verdict           packets   bytes  at",
        "ssh                accept              1,234  98,765  web.yaml:3:5",
        "watch\\x1b[2J       -                       0       0  web.yaml:4:5",
        "no-telnet          reject tcp-reset        2      80  web.yaml:12:5",
        "default input      drop                   10     400  web.yaml:2:18",
        "default output     accept                  0       0  web.yaml:2:32",
        "failure malformed  drop                    3      60  -",
        "failure fragment   accept                  4      90  web.yaml:9:24",
        "count knocks       -                       2      80  -",
        "all packets        -                   1,249  99,305  -",
        "verdicts: 1,234 accept, 13 drop, 2 reject",
        "malformed tcp-flags: 3",
        "set seen: 2 elements now, 1,000 added",
        "set full: 4 elements now, 4 added, 9 refused because it was full",
        "queue 0: socket_full 3",
    ]


def test_without_packets() -> None:
    assert render(EMPTY).splitlines() == [
        "rule         verdict  packets  bytes  at",
        "all packets  -              0      0  -",
        "verdicts: none",
    ]


def test_styles_change_no_width() -> None:
    def style(text: str, name: str) -> str:
        return f"<{name} {text}>" if name in ("accept", "dim", "failure") else text

    styled = render(REPORT, style, losses=["lost"]).splitlines()
    assert styled[1] == "ssh                <accept accept          >    1,234  98,765  <dim web.yaml:3:5>"
    assert styled[2].startswith("<dim watch\\x1b[2J     >  <dim -               >  <dim       0>")
    assert styled[-1] == "<failure lost>"
