"""The table of rules, as a picture."""

from __future__ import annotations

from qfilter.errors import Position
from qfilter.events.table import render
from qfilter.model.hook import Hook
from qfilter.model.report import Report, RuleTally, Tally
from qfilter.model.verdict import ACCEPT, CAUSES, Decision, Kind, Reason, RejectWith


def test_the_table() -> None:
    reject = Decision(Kind.REJECT, reject=RejectWith.TCP_RESET)
    report = Report(
        rules=(
            RuleTally("ssh", Position("web.yaml", 3, 5), ACCEPT, Tally(1_234, 98_765)),
            RuleTally("watch\x1b[2J", Position("web.yaml", 4, 5), None, Tally()),
            RuleTally("no-telnet", Position("web.yaml", 12, 5), reject, Tally(2, 80)),
        ),
        defaults={Hook.INPUT: Tally(10, 400), Hook.OUTPUT: Tally()},
        causes={cause: Tally(3, 60) if cause is Reason.MALFORMED else Tally() for cause in CAUSES},
        malformed={"tcp-flags": 3},
        verdicts={Kind.ACCEPT: Tally(1_234, 98_765), Kind.DROP: Tally(13, 460), Kind.REJECT: Tally(2, 80)},
        counters={},
        sets={},
    )
    assert render(report).splitlines() == [
        "rule               verdict           packets   bytes  at",
        "ssh                accept              1,234  98,765  web.yaml:3:5",
        "watch\\x1b[2J       -                       0       0  web.yaml:4:5",
        "no-telnet          reject tcp-reset        2      80  web.yaml:12:5",
        "default input      -                      10     400  -",
        "default output     -                       0       0  -",
        "failure malformed  -                       3      60  -",
        "all packets        -                   1,249  99,305  -",
    ]
