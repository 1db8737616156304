"""`--engine`, which several commands take."""

from __future__ import annotations

import click

from qfilter.daemon import EngineName

engine_option = click.option(
    "--engine",
    type=click.Choice([engine.value for engine in EngineName]),
    callback=lambda _context, _option, name: EngineName(name),
    default=EngineName.NATIVE.value,
    show_default=True,
    help="The compiled engine, or the plain Python that says what it must do.",
)
