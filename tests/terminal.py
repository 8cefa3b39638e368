"""Run a command in a terminal of 80 columns and draw what it printed as an SVG, shortened to what a reader needs.

python -m tests.terminal .github/demo.svg erpmirror demo --once
"""

from __future__ import annotations

import os
import pty
import re
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

COLUMNS = "80"
EDITS = 8
"""Lines of the day that are kept, from its beginning."""

ROWS = 14
"""Rows of the table that are kept, from its beginning."""

_REDRAWN = re.compile(r"^.*\x1b\[2K|\x1b\[\?25[lh]|\x1b\[\d*[A-HJ]|\r")
"""Lines that a progress bar overwrote, and cursor movements."""

_TRANSIENT = re.compile(r"Starting receiver|differ (?:\x1b\[\d+m)?\d:\d\d:\d\d")

_WINDOW = """\
<svg viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<!-- Real output, shortened. tests/terminal.py made this and explains how to make it again. -->
<style>
.{unique_id}-matrix {{
  font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, monospace;
  font-size: {char_height}px;
  line-height: {line_height}px;
}}
.{unique_id}-title {{ font: 15px system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal"><rect width="{terminal_width}" height="{terminal_height}"/></clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""


def captured(command: list[str]) -> str:
    """The output of the command in a terminal of `COLUMNS` columns."""
    printed = bytearray()

    def read(descriptor: int) -> bytes:
        data = os.read(descriptor, 65536)
        printed.extend(data)
        return data

    os.environ |= {"TERM": "xterm-256color", "COLUMNS": COLUMNS, "LINES": "50"}
    pty.spawn(command, read)
    return printed.decode()


def shorten(printed: str) -> list[str]:
    """The final lines, without most of the day and of the table."""
    lines = [_REDRAWN.sub("", line) for line in printed.split("\n") if not _TRANSIENT.search(line)]
    plain = [Text.from_ansi(line).plain for line in lines]
    title = next(number for number, line in enumerate(plain) if "Objects in the sandboxes" in line)
    rows = [number for number, line in enumerate(plain) if number > title and line.startswith("│")]
    edits = [number for number in range(title) if plain[number].strip()][:EDITS]
    left = "│ " + f"… and {len(rows) - ROWS} more resources".ljust(len(plain[rows[0]]) - 4) + " │"
    table = [*lines[title : rows[ROWS]], left, *lines[rows[-1] + 1 :]]
    return [
        *(lines[number] for number in edits),
        "           …",
        *(line for line in table if Text.from_ansi(line).plain.strip()),
    ]


def main() -> None:
    """Draw the command's output into the target file."""
    target, *command = sys.argv[1:]
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
        console = Console(record=True, width=int(COLUMNS), file=nowhere, force_terminal=True)
        for line in shorten(captured(command)):
            console.print(Text.from_ansi(line), soft_wrap=True)
        drawn = console.export_svg(title=" ".join(command), code_format=_WINDOW, unique_id="demo")
    Path(target).write_text(drawn, encoding="utf-8")


if __name__ == "__main__":
    main()
