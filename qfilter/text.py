"""Text of others, to be printed: names, comments and messages may hold any character."""

from __future__ import annotations


def escaped(text: str) -> str:
    """Text that a terminal only shows: all that is not printable is written as Python would escape it.

    Whoever names an interface, a rule or a file must not be able to move the cursor or to turn the text around.
    """
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)
