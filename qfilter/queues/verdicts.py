"""What a verdict is to the kernel: one 32-bit value, and the packet's mark. Pure."""

from __future__ import annotations

from qfilter.model.marks import MARK_LIMIT, handed_back
from qfilter.model.verdict import Kind, Verdict
from qfilter.netlink.nfnetlink import Outcome


def encode(verdict: Verdict, mark: int, mark_mask: int, own: int) -> tuple[int, int | None]:
    """The value of `nfqnl_msg_verdict_hdr` for a packet that arrived with `mark`, and its new mark, None for the old.

    `own` is the number of the queue that it is in: sent there again it would come back unchanged, for ever.

    A reject goes back through the chain with its code in the bits of `mark_mask`, where qfilter's REJECT rules wait
    for it. A queue comes without the bypass bit: a packet for a queue that nobody listens to is dropped.
    Raises ValueError for a verdict that would set those bits in any other way, which a later hook would take for a
    reject, and for its own queue.
    """
    decision = verdict.decision
    new = mark if verdict.mark is None else verdict.mark
    if not 0 <= new < MARK_LIMIT or new & mark_mask:
        raise ValueError(f"mark {new:#x}: expected 32 bits, none of {mark_mask:#x}, which hand rejects back")
    changed = None if verdict.mark is None else new
    match decision.kind:
        case Kind.ACCEPT:
            return Outcome.ACCEPT, changed
        case Kind.DROP:
            return Outcome.DROP, None
        case Kind.REPEAT:
            return Outcome.REPEAT, changed
        case Kind.QUEUE:
            if decision.queue is None or not 0 <= decision.queue <= 0xFFFF:
                raise ValueError(f"queue {decision.queue}: expected 0 to 65535")
            if decision.queue == own:
                raise ValueError(f"{decision}: the packet is in that queue, expected another")
            return decision.queue << 16 | Outcome.QUEUE, changed
        case Kind.REJECT:
            if decision.reject is None:
                raise ValueError("reject without an answer: expected one of RejectWith")
            return Outcome.REPEAT, new | handed_back(mark_mask, decision.reject)
