"""Exit codes, help, and what never happens: a traceback."""

from __future__ import annotations

import errno
import os
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

from qfilter.cli import cli, schema
from qfilter.errors import (
    CaptureError,
    ControlError,
    Diagnostic,
    FirewallError,
    PacketError,
    PolicyError,
    Position,
    PrivilegeError,
    QFilterError,
    QueueError,
    QueueTakenError,
    UnsupportedError,
)
from tests.lab.process import environment
from tests.lab.service import qfilter as command_line
from tests.unit.cli.conftest import Command

COMMANDS = cli.list_commands(click.Context(cli))


def fails_with(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def fail(*, included: bool) -> None:
        raise error

    monkeypatch.setattr(schema, "json_schema", fail)


def refused(*kinds: str) -> PolicyError:
    """A policy that this machine does not take, for mistakes of these kinds."""
    return PolicyError([Diagnostic(kind=kind, at=Position("a.yaml", 1, 1), message=kind) for kind in kinds])


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (PacketError("hook 'x'"), 1, "error: hook 'x'\n"),
        (CaptureError("a.pcap: byte 7"), 1, "error: a.pcap: byte 7\n"),
        (refused("unsupported"), 4, "a.yaml:1:1: error: unsupported\n"),
        (refused("unsupported", "own-queue"), 1, "a.yaml:1:1: error: unsupported\na.yaml:1:1: error: own-queue\n"),
        (PrivilegeError("needs root"), 3, "error: needs root\n"),
        (UnsupportedError("no nft"), 4, "error: no nft\n"),
        (QueueError("bind queue 0", "refused"), 4, "error: bind queue 0: refused\n"),
        (QueueTakenError(0, 7, "process 7 (x)"), 4, "error: bind queue 0: already held by process 7 (x)"),
        (FirewallError("nft -f -", "line 1\nline 2"), 4, "error: nft -f -: line 1\nline 2\n"),
        (ControlError("no service answers"), 1, "error: no service answers\n"),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "out.xml"), 1, "error: out.xml: No space left on device\n"),
        (OSError(errno.EIO, os.strerror(errno.EIO)), 1, "error: Input/output error\n"),
        (ZeroDivisionError("by 0"), 5, "error: a fault of qfilter's own: ZeroDivisionError: by 0 ("),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_every_error_is_a_line_and_an_exit_code(
    qfilter: Command, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, said: str
) -> None:
    fails_with(monkeypatch, error)
    done = qfilter("schema")
    assert (done.code, done.out) == (code, "")
    assert done.err.lstrip("\n").startswith(said)
    assert "Traceback" not in done.err


def test_a_fault_says_where(qfilter: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    fails_with(monkeypatch, TypeError("x"))
    assert f"({__file__}:" in qfilter("schema").err


def test_every_documented_error_has_a_code() -> None:
    """A new kind of error must be thought about here."""
    assert {each.__name__ for each in QFilterError.__subclasses__()} == {
        "PolicyError",
        "PacketError",
        "CaptureError",
        "UnsupportedError",
        "PrivilegeError",
        "QueueError",
        "FirewallError",
        "ControlError",
    }


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("chekc",), "No such command 'chekc'"),
        (("check",), "Missing argument 'POLICY'"),
        (("check", "p.yaml", "--fromat", "json"), "No such option"),
        (("explain", "p.yaml"), "expected one of --packet, --scapy, --hex and --capture"),
        (("replay", "p.yaml", "c.pcap", "--hook", "inptu"), "'inptu' is not one of"),
        (("fields", "nonsense"), "no field is about 'nonsense'"),
    ],
)
def test_a_wrong_command_line(qfilter: Command, words: tuple[str, ...], said: str) -> None:
    done = qfilter(*words)
    assert (done.code, done.out) == (2, "")
    assert said in done.err


@pytest.mark.parametrize("name", COMMANDS)
def test_help_has_an_example_of_the_command(qfilter: Command, name: str) -> None:
    done = qfilter(name, "--help")
    assert done.code == 0
    _, _, example = done.out.partition("Example")
    assert f"qfilter {name}" in example


def test_help_lists_every_command_and_exit_code(qfilter: Command) -> None:
    done = qfilter("--help")
    assert done.code == 0
    listed = [line.split()[0] for line in done.out.partition("Commands:\n")[2].partition("\n\n")[0].splitlines()]
    assert listed == COMMANDS
    codes = [line.split()[0] for line in done.out.partition("Exit codes:\n")[2].splitlines() if line[4:5].isdigit()]
    assert codes == ["0", "1", "2", "3", "4", "5", "130"]


def test_version(qfilter: Command) -> None:
    assert qfilter("--version").out.startswith("qfilter, version ")


def test_help_loads_nothing_heavy() -> None:
    code = "import sys; from qfilter.cli import main; sys.argv = ['qfilter', '--help']\ntry: main()\nfinally: "
    code += "print([name for name in ('scapy', 'pydantic', 'yaml') if name in sys.modules], file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "[]\n"


@pytest.mark.parametrize("words", [("schema",), ("fields",), ("run", "--help")])
def test_a_reader_that_is_gone_is_no_mistake(words: tuple[str, ...]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(command_line(*words), stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("closed", ["0<&-", "1>&-", "2>&-", "0<&- 1>&- 2>&-"])
@pytest.mark.parametrize(("words", "code"), [(("schema",), 0), (("run", "--help"), 0), (("check", "no.yaml"), 1)])
def test_a_stream_that_is_closed_is_read_and_written_by_nobody(words: tuple[str, ...], code: int, closed: str) -> None:
    script = f"exec {shlex.join(command_line(*words))} {closed}"
    done = subprocess.run(["bash", "-c", script], env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert "Traceback" not in done.stderr


def test_what_is_opened_later_is_no_standard_stream(tmp_path: Path) -> None:
    """Neither here nor in a child process: whoever writes to standard error must not write into a capture."""
    seen = tmp_path / "seen"
    child = f"links=$(readlink /proc/$$/fd/0 /proc/$$/fd/1 /proc/$$/fd/2); echo $links >{seen}"
    code = "import subprocess, sys; from qfilter.cli import main; sys.argv = ['qfilter', '--version']\n"
    code += f"try: main()\nfinally: subprocess.run(['sh', '-c', '{child}'])"
    script = f"exec {shlex.join([sys.executable, '-c', code])} 0<&- 1>&- 2>&-"
    subprocess.run(["bash", "-c", script], env=environment(), check=True)
    assert seen.read_text().split() == ["/dev/null"] * 3


def test_a_reader_that_has_seen_enough(policy: str, tmp_path: Path) -> None:
    script = f"set -o pipefail; {' '.join(command_line('schema'))} | head -1"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "{\n", "")


def test_help_says_defaults_as_they_are_typed(qfilter: Command) -> None:
    assert "[default: native]" in " ".join(qfilter("replay", "--help").out.split())
