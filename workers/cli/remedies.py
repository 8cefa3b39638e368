"""What a person does about a connection that could not be proved, by the fate of its question."""

# ruff: noqa: PLC0415 - what a verb needs is imported when it runs: `--help` stays quick

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from models.settings import Connection
    from workers.errors import Fate
    from workers.gate import Shut

_AGAIN = "then run `erpmirror check` again"

CLOCK = "set this machine's clock or the vendor's, whichever is wrong (`date -u` shows this one's)"


def of_login(ended: Fate | Shut, options: Connection, table: str) -> str | None:
    """What to do when the vendor did not let us in. `table`: the connection's table and its file."""
    from workers.errors import SetAside

    if not isinstance(ended, SetAside):
        return _of_delay(ended, table)
    keys = " and ".join(f"`{name}`" for name in login_keys(options))
    return f"correct {keys} in {table}; where the words above are no refusal, `url` leads to somebody else"


def of_resource(ended: Fate | Shut, resource: str, table: str) -> str | None:
    """What to do when a resource could not be read."""
    from workers.errors import SetAside

    if not isinstance(ended, SetAside):
        return _of_delay(ended, table)
    if ended.whole_resource:
        return f"give this login the right to read {resource} at the vendor, or leave it out of `resources` in {table}"
    return (
        f"the answer is not what this vendor documents: see that `url` in {table} leads to him and that nothing "
        f"between changes his answers, {_AGAIN}; `erpmirror ask` shows what he answers"
    )


def of_folder(folder: str) -> str:
    """What to do about a watched folder that cannot be used."""
    return f"make it (`mkdir -p {folder}`) and let the user who runs the workers read and write there"


def login_keys(options: Connection) -> list[str]:
    """The settings that hold what identifies the account at the vendor."""
    from pydantic import SecretStr

    login = set(options.login())

    def plain(name: str) -> object:
        value = getattr(options, name)
        return value.get_secret_value() if isinstance(value, SecretStr) else value

    names = [name for name in type(options).model_fields if name not in {"name", "system", "url"}]
    return [name for name in names if isinstance(plain(name), str) and plain(name) in login]


def _of_delay(ended: Fate | Shut, table: str) -> str | None:
    """What to do where asking later may be enough. A vendor who is closed needs no remedy."""
    from workers.errors import Busy, Closed, TimedOut, TryLater
    from workers.gate import Shut

    url = f"`url` in {table}"
    match ended:
        case Closed():
            return None
        case Shut():
            said = f"wait until {ended.until:%Y-%m-%d %H:%M:%S} UTC"
        case Busy():
            said = "the vendor serves somebody else right now: wait a minute"
        case TimedOut():
            said = f"check {url} and the network; for a vendor who is slow, set a longer `timeout` there"
        case TryLater(after=after) if after is not None:
            said = f"the vendor asks to wait for {after.total_seconds():.0f} s: do so"
        case TryLater(shuts_gate=False):
            said = f"something else answered than the vendor, or only half of it arrived: check {url}"
        case _:
            said = f"check {url} and that the network leads there; where the vendor has trouble of his own, wait"
    return f"{said}, {_AGAIN}"
