"""What is written where nobody has to read it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import click
import pytest

from qfilter.cli.output import console, report, unhurried
from qfilter.errors import QueueError


@contextmanager
def standard_error(descriptor: int) -> Iterator[None]:
    """Another one, for all of the process."""
    before = os.dup(2)
    os.dup2(descriptor, 2)
    try:
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)


def fill(pipe: int) -> None:
    """Until not a byte more fits."""
    os.set_blocking(pipe, False)
    try:
        while True:
            os.write(pipe, b".")
    except BlockingIOError:
        os.set_blocking(pipe, True)


def test_all_that_is_written_comes_in_its_order(capfd: pytest.CaptureFixture[str]) -> None:
    with unhurried(stderr=True):
        console(stderr=True).print("qfilter: [red]no markup[/]", markup=False)
        click.echo("a table\n", nl=False, err=True)
        report(QueueError("serve queue 0", "it is gone"))
        sys.stderr.write("\udcff\n")
    with unhurried():
        click.echo("elsewhere")
    said = capfd.readouterr()
    assert said.err == "qfilter: [red]no markup[/]\na table\nerror: serve queue 0: it is gone\n\\udcff\n"
    assert said.out == "elsewhere\n"


def test_a_reader_that_comes_back_has_missed_nothing() -> None:
    reader, writer = os.pipe()
    fill(writer)
    with standard_error(writer), unhurried(stderr=True):
        click.echo("first", err=True)
        click.echo("second", err=True)
        filled = os.read(reader, 1 << 20)
    os.close(writer)
    with os.fdopen(reader, "rb") as rest:
        assert (set(filled), rest.read()) == (set(b"."), b"first\nsecond\n")


@pytest.mark.parametrize("gone", [True, False], ids=["gone", "stalled"])
def test_without_a_reader_it_ends_all_the_same(gone: bool) -> None:
    reader, writer = os.pipe()
    if gone:
        os.close(reader)
    else:
        fill(writer)
    with standard_error(writer), unhurried(stderr=True):
        click.echo("to nobody", err=True)
    os.close(writer)
    if not gone:
        with os.fdopen(reader, "rb") as rest:
            assert set(rest.read()) == set(b".")
