"""Which file a path in a policy means. Nothing outside the policy's folder is ever opened."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath


class PathError(ValueError):
    """A path that must not be followed, or that leads to no file."""


_PATTERN = re.compile(r"[*?[]")


def locate(text: str, near: Path, folder: Path) -> list[Path]:
    """The files that a path or glob means, sorted by name: at least one.

    `near` is the folder of the file that holds the path, `folder` the policy's, as a real path. Raises PathError for
    an absolute path, `..`, `**`, anything that leads out of the folder (a symbolic link too), and for no file at all.
    """
    path = PurePosixPath(text)
    if not text or "\0" in text:
        raise PathError(f"{text!r} is not a path")
    if path.is_absolute() or ".." in path.parts:
        raise PathError(f"{text!r} leaves the policy's folder: expected a path below it, without '..'")
    if "**" in text:
        raise PathError(f"{text!r}: expected one '*' a folder, '**' is not taken")
    try:
        found = _glob(path, near) if _PATTERN.search(text) else [near / path]
        for file in found:
            if not file.resolve().is_relative_to(folder):
                raise PathError(f"{str(file)!r} is a link that leaves the policy's folder")
        if not found or not all(file.is_file() for file in found):
            raise PathError(f"{text!r} matches no file")
    except (OSError, RuntimeError) as error:  # RuntimeError: a loop of links, before Python 3.13
        raise PathError(f"{text!r} cannot be followed: {error}") from None
    return found


def _glob(path: PurePosixPath, near: Path) -> list[Path]:
    """Hidden files, such as an editor's locks, are not matched by a pattern."""
    found = (file for file in near.glob(str(path)) if file.is_file() or file.is_symlink())
    return sorted(file for file in found if not any(part.startswith(".") for part in file.relative_to(near).parts))
