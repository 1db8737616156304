"""What the commands that ask a running service share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click


def control_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--control`: the socket of the service."""
    decorate = click.option(
        "--control",
        type=click.Path(),
        help="The service's socket; without it that of this network namespace, `/run/qfilter-*.sock`.",
    )
    decorated: Callable[..., Any] = decorate(command)
    return decorated
