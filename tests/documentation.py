"""Parses the project's own pages for tests: code blocks, commands, cited names, links and headings."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
OPERATING = ROOT / ".github" / "OPERATING.md"
ADD_A_SYSTEM = ROOT / ".github" / "ADD_A_SYSTEM.md"
PAGES = (README, OPERATING, ADD_A_SYSTEM)
LINKED = [
    OPERATING,
    ADD_A_SYSTEM,
    *(ROOT / ".github" / name for name in ("CONTRIBUTING.md", "DECISIONS.md", "SECURITY.md", "CHANGELOG.md")),
]
"""The pages that README sends its reader to."""

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_COMMENT = re.compile(r"\s{2,}#.*$")


def blocks(page: Path, language: str) -> list[str]:
    """The page's code blocks in that language, in order."""
    return [block for name, block in _FENCE.findall(page.read_text(encoding="utf-8")) if name == language]


def commands(page: Path) -> list[str]:
    """Each line of the page's shell blocks, without its comment."""
    lines = [_COMMENT.sub("", line) for block in blocks(page, "sh") for line in block.splitlines()]
    return [line for line in lines if line.strip() and not line.startswith("#")]


def files(page: Path) -> dict[str, str]:
    """The files that the page has its reader create: path -> content. Each is under a heading that names it."""
    found = re.findall(
        r"^## \d+\. `([\w./]+)`$.*?^```python\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    return dict(found)


def cited(page: Path) -> set[str]:
    """Everything that the page's prose has in backticks."""
    return set(re.findall(r"`([^`\n]+)`", _FENCE.sub("", page.read_text(encoding="utf-8"))))


def links(page: Path) -> set[str]:
    """The files of ours that the page links or shows."""
    targets = re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))
    return {target for target in targets if "://" not in target}


def headings(page: Path) -> set[str]:
    """The page's headings as links name them."""
    found = re.findall(r"^#+ (.+)$", _FENCE.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in found}


@dataclass(frozen=True)
class Curl:
    """A curl command line as an HTTP request."""

    method: str
    url: str
    headers: dict[str, str]
    file: Path | None

    @classmethod
    def read(cls, line: str, *, folder: Path, **variables: str) -> Curl:
        """Understand -X, -H and -F, and variables in double quotes."""
        for name, value in variables.items():
            line = line.replace(f"${name}", value)
        words = iter(shlex.split(line)[1:])
        method, url, headers, file = "", "", {}, None
        for word in words:
            match word:
                case "-X":
                    method = next(words)
                case "-H":
                    name, _, value = next(words).partition(": ")
                    headers[name] = value
                case "-F":
                    part, _, path = next(words).partition("=@")
                    assert part == "file"
                    file = folder / path
                case _:
                    assert word.startswith("http"), f"curl's {word} is not understood here"
                    url = word
        return cls(method or ("POST" if file else "GET"), url, headers, file)
