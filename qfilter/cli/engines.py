"""`--engine`, which several commands take."""

from __future__ import annotations

import click

from qfilter.daemon import EngineName

engine_option = click.option(
    "--engine",
    type=click.Choice(list(EngineName), case_sensitive=False),
    default=EngineName.NATIVE,
    show_default=True,
    help="The compiled engine, or the plain Python that says what it must do.",
)
