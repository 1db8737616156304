"""A consumer of NetfilterQueue, the Python package, that accepts everything of queue 0: python -m ..."""

from __future__ import annotations

from netfilterqueue import NetfilterQueue, Packet


def main() -> None:
    queue = NetfilterQueue()
    queue.bind(0, Packet.accept)
    queue.run()


if __name__ == "__main__":
    main()
