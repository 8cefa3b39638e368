"""Values from elsewhere: `${NAME}` from the environment or the `.env` beside the settings file, `${file:PATH}`.

No message repeats a value: it may be secret.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FILE = ".env"

_REFERENCE = re.compile(r"\$\{([^}]*)(\}?)")
_NAME = re.compile("[A-Za-z_][A-Za-z0-9_]*")
_FROM_FILE = "file:"
_ASSIGNMENT = re.compile(
    r"""[ \t]*(?:export[ \t]+)?(?P<name>[A-Za-z_][A-Za-z0-9_.-]*)[ \t]*=[ \t]*
    (?:'(?P<literal>[^']*)' | "(?P<quoted>(?:\\.|[^"\\])*)" | (?P<bare>(?!['"])[^\n]*?))
    [ \t]*(?:(?<=[ \t])\#[^\n]*)?(?:\n|\Z)""",
    re.VERBOSE | re.DOTALL,
)
_NO_ASSIGNMENT = re.compile(r"[ \t]*(?:\#[^\n]*|(?:export[ \t]+)?[A-Za-z_][A-Za-z0-9_.-]*[ \t]*)?(?:\n|\Z)")
"""An empty line, a comment, or a bare name, which Docker takes from the environment."""

_ESCAPES = {"n": "\n", "r": "\r", "t": "\t"}


@dataclass
class References:
    """Resolves the references of one settings file. `folder`: the file's. `complaints` collects what is wrong."""

    folder: Path
    complaints: list[str] = field(default_factory=list)
    environment: Mapping[str, str] = field(init=False)

    def __post_init__(self) -> None:
        beside, complaints = read_env_file(self.folder / FILE)
        self.complaints += complaints
        self.environment = {**beside, **os.environ}

    def expanded(self, value: Any, place: str = "") -> Any:
        """The value with each reference in its texts replaced. `place`: where it stands in the file."""
        if isinstance(value, dict):
            return {key: self.expanded(item, f"{place}.{key}".removeprefix(".")) for key, item in value.items()}
        if isinstance(value, list):
            return [self.expanded(item, f"{place}[{index}]") for index, item in enumerate(value)]
        if isinstance(value, str):
            # What comes from elsewhere is not expanded in turn, so a password may contain "${".
            return _REFERENCE.sub(lambda match: self._resolved(place, match[1], closed=bool(match[2])), value)
        return value

    def _resolved(self, place: str, name: str, *, closed: bool) -> str:
        try:
            if closed and name.startswith(_FROM_FILE):
                return self._from_file(name.removeprefix(_FROM_FILE).strip())
            if closed and _NAME.fullmatch(name):
                return self._from_environment(name)
        except ValueError as error:
            self.complaints.append(f"{place}: {error}")
            return ""
        self.complaints.append(
            f'{place}: a reference reads "${{NAME}}" or "${{file:PATH}}"; a value with "${{" in it belongs into the '
            "environment or a file"
        )
        return ""

    def _from_environment(self, name: str) -> str:
        value = _without_newline(self.environment.get(name, ""))
        if not value:
            state = "is empty" if name in self.environment else "is not set"
            beside = f"write {name}=… into {self.folder / FILE}"
            raise ValueError(f"${{{name}}} {state}; set the environment variable {name}, {beside}, or remove the key")
        return value

    def _from_file(self, path: str) -> str:
        file = self.folder / path
        try:
            value = _without_newline(file.read_bytes().decode("utf-8-sig"))
        except OSError as error:
            raise ValueError(
                f"${{file:{path}}}: {file} cannot be read: {error.strerror}; correct the path, or let this user read it"
            ) from None
        except UnicodeDecodeError:
            raise ValueError(f"${{file:{path}}}: {file} is not UTF-8; save it as UTF-8") from None
        if not value:
            raise ValueError(f"${{file:{path}}}: {file} is empty; write the value into it, or remove the key")
        return value


def _without_newline(value: str) -> str:
    """`echo key > secret` ends in a newline, which is no part of the key."""
    return value.rstrip("\r\n")


def read_env_file(file: Path) -> tuple[dict[str, str], list[str]]:
    r"""The variables of a `.env` in Docker's format, and the complaints about it; nothing if there is no such file.

    Comments, `export`, quotes ('as it is', "with \n, \t, \" and \\"); quoted values may span lines. `$` is kept:
    variables are not put into variables.
    """
    try:
        text = file.read_bytes().decode("utf-8-sig").replace("\r\n", "\n")
    except FileNotFoundError:
        return {}, []
    except OSError as error:
        return {}, [f"{file} cannot be read: {error.strerror}; let this user read it, or remove it"]
    except UnicodeDecodeError as error:
        return {}, [f"{file} is not UTF-8 (byte {error.start}); save it as UTF-8"]
    values: dict[str, str] = {}
    complaints = []
    for line, match in _lines(text):
        if match is None:
            complaints.append(f'{file}, line {line}: write NAME=value, with quotes that end, as in NAME="two words"')
        elif match.re is _ASSIGNMENT:
            values[match["name"]] = _value(match)
    return values, complaints


def _lines(text: str) -> Iterator[tuple[int, re.Match[str] | None]]:
    """Each assignment or other line with its number; None for one that is neither."""
    position = 0
    while position < len(text):
        number = text.count("\n", 0, position) + 1
        match = _NO_ASSIGNMENT.match(text, position) or _ASSIGNMENT.match(text, position)
        yield number, match
        position = match.end() if match else (text.find("\n", position) + 1 or len(text))


def _value(match: re.Match[str]) -> str:
    if match["literal"] is not None:
        return match["literal"]
    if match["quoted"] is not None:
        return re.sub(r"\\(.)", lambda escaped: _ESCAPES.get(escaped[1], escaped[1]), match["quoted"], flags=re.DOTALL)
    return match["bare"]
