"""A consumer that rejects every packet of queue 0 the way that qfilter does: a code in the mark, and NF_REPEAT.

Run inside a namespace: `python -m tests.kernel.handing_back MARK`. It says `ready` when it is bound, and `rejecting`
with the protocol's number for each packet; the kernel's own neighbour discovery is among them at times.
"""

from __future__ import annotations

import sys

from netfilterqueue import NetfilterQueue, Packet


def main() -> None:
    mark = int(sys.argv[1], 0)

    def reject(packet: Packet) -> None:
        header = packet.get_payload()
        print("rejecting", header[9] if header[0] >> 4 == 4 else header[6])
        packet.set_mark(mark)
        packet.repeat()

    queue = NetfilterQueue()
    queue.bind(0, reject)
    print("ready")
    queue.run()


if __name__ == "__main__":
    main()
