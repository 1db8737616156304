"""What systemd is told by a service of `Type=notify`: sd_notify(3)."""

from __future__ import annotations

import os
import socket


def tell_ready() -> None:
    """Tells whoever waits for this service that it serves; nothing where nobody does. Raises OSError."""
    place = os.environ.get("NOTIFY_SOCKET", "")
    if not place:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as told:
        told.connect("\0" + place[1:] if place.startswith("@") else place)
        told.sendall(b"READY=1")
