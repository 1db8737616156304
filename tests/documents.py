"""What the project's Markdown files hold: fenced blocks, commands, links, and paths of the repository."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.lab.process import ROOT

README = ROOT / "README.md"
GUIDE = ROOT / "docs" / "operators-guide.md"
FIELDS = ROOT / "docs" / "fields.md"

_BLOCK = re.compile(r"^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_NAME = re.compile(r"# (?P<name>[\w./-]+\.\w+)\n")
_LINK = re.compile(r"\]\((?P<target>[^)\s]+)\)")
_CODE = re.compile(r"`(?P<code>[^`\n]+)`")
_PATH = re.compile(r"[\w.-]+/[\w./-]*|[\w-]+\.(?:py|md)")


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block. Its first line may be a comment that names the file that it is."""

    file: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.file.relative_to(ROOT)}:{self.line}"

    @property
    def name(self) -> str | None:
        """`lists/blocklist.txt` where the first line is `# lists/blocklist.txt`."""
        found = _NAME.match(self.text)
        return found["name"] if found else None


def markdown_files() -> list[Path]:
    """Every Markdown file of the project."""
    return sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("rules/**/*.md")])


def blocks(file: Path, language: str) -> list[Block]:
    """The blocks of one language, in their order."""
    text = file.read_text()
    return [
        Block(file, text.count("\n", 0, found.start()) + 2, language, found["text"])
        for found in _BLOCK.finditer(text)
        if found["language"] == language
    ]


def commands(file: Path) -> list[str]:
    """The lines of its `sh` blocks, without comments."""
    lines = [line.partition(" #")[0].strip() for block in blocks(file, "sh") for line in block.text.splitlines()]
    return [line for line in lines if line]


def inline_code(file: Path) -> list[str]:
    """What stands in backticks, outside of blocks."""
    return [found["code"] for found in _CODE.finditer(_BLOCK.sub("", file.read_text()))]


def links(file: Path) -> list[str]:
    """Where its links lead, those to other sites left out."""
    targets = [found["target"] for found in _LINK.finditer(_BLOCK.sub("", file.read_text()))]
    return [target for target in targets if "://" not in target]


def paths(file: Path) -> Iterator[str]:
    """Words in backticks or in tables that can only mean a file or folder of the repository, none that git ignores."""
    ignored = [line.strip("/") for line in (ROOT / ".gitignore").read_text().splitlines()]
    places = {entry.name for folder in (ROOT, ROOT / "qfilter") for entry in folder.iterdir() if entry.is_dir()}
    cells = [cell.strip() for line in file.read_text().splitlines() if line.startswith("|") for cell in line.split("|")]
    for word in (*inline_code(file), *cells):
        known = "/" not in word or word.partition("/")[0] in places
        if _PATH.fullmatch(word) and known and not any(f"{word}/".startswith(f"{folder}/") for folder in ignored):
            yield word
