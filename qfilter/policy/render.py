"""Diagnostics for people and for tools. Plain text without colour; what the file says can move no cursor."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from qfilter.errors import Diagnostic, Position

WIDTH = 120
"""Characters of a source line that are shown; of a longer line the part around the mistake."""


def as_text(diagnostics: Iterable[Diagnostic]) -> str:
    """One block for each: what is wrong, the line with a caret, the includes that led there. Empty for none.

    rules/web.yaml:12:9: error: port '70000': expected 0 to 65535 (did you mean '7000'?)
        dport: 70000
               ^^^^^
      included from rules/main.yaml:3:5
    """
    return "".join(f"{line}\n" for diagnostic in diagnostics for line in _lines(diagnostic))


def as_dict(diagnostic: Diagnostic) -> Mapping[str, object]:
    """One for JSON: kind, severity, message, file, line, column, width, source, suggestion, included_from."""
    return {
        "kind": diagnostic.kind,
        "severity": diagnostic.severity,
        "message": diagnostic.message,
        **_place(diagnostic.at),
        "width": diagnostic.width,
        "source": diagnostic.source,
        "suggestion": diagnostic.suggestion,
        "included_from": [_place(at) for at in diagnostic.included_from],
    }


def _place(at: Position) -> dict[str, object]:
    return {"file": at.file, "line": at.line, "column": at.column}


def _lines(diagnostic: Diagnostic) -> Iterable[str]:
    yield _printable(str(diagnostic))
    if diagnostic.source.strip():
        before, marked, after = _window(diagnostic)
        # A tab stays a tab before the caret: both lines are then indented alike.
        yield f"    {before}{marked}{after}"
        yield "    " + "".join("\t" if char == "\t" else " " for char in before) + "^" * max(len(marked), 1)
    for at in diagnostic.included_from:
        yield f"  included from {at}"


def _window(diagnostic: Diagnostic) -> tuple[str, str, str]:
    """The line before, in and behind the mistake, cut to WIDTH."""
    line, start = diagnostic.source, diagnostic.at.column - 1
    left = 0 if len(line) <= WIDTH else max(0, start - WIDTH // 2)
    shown = line[left : left + WIDTH]
    start = min(start - left, len(shown))
    end = min(start + diagnostic.width, len(shown))
    before = ("..." if left else "") + shown[:start]
    after = shown[end:] + ("..." if left + WIDTH < len(line) else "")
    return _printable(before), _printable(shown[start:end]), _printable(after.rstrip())


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() or char == "\t" else "\N{REPLACEMENT CHARACTER}" for char in text)
