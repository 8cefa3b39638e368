"""What a person does about a failed check of a connection, by the kind of its failure."""

# ruff: noqa: PLC0415 - what a verb needs is imported when it runs: `--help` stays quick

from __future__ import annotations

from typing import TYPE_CHECKING

from models.durations import spell

if TYPE_CHECKING:
    from models.settings.connections import Connection
    from workers.errors import VendorError
    from workers.gate.gate import GateClosed

_AGAIN = "then run `erpmirror check` again"

CLOCK = "set this machine's clock or the vendor's, whichever is wrong (`date -u` shows this one's)"


def of_login(ended: VendorError | GateClosed, options: Connection, table: str) -> str | None:
    """What to do when the login failed. `table`: the connection's table and its file."""
    from workers.errors import SetAside

    if not isinstance(ended, SetAside):
        return _of_delay(ended, table)
    keys = " and ".join(f"`{name}`" for name in login_keys(options))
    return f"correct {keys} in {table}; if the message above is no refusal, `url` is not the vendor's"


def of_resource(ended: VendorError | GateClosed, resource: str, table: str) -> str | None:
    """What to do when a resource could not be read."""
    from workers.errors import SetAside

    if not isinstance(ended, SetAside):
        return _of_delay(ended, table)
    if ended.whole_resource:
        return f"give this login the right to read {resource} at the vendor, or leave it out of `resources` in {table}"
    return (
        f"the answer is not what this vendor documents: check that `url` in {table} is its address and that no proxy "
        f"changes its answers, {_AGAIN}; `erpmirror ask` shows them"
    )


def of_folder(folder: str) -> str:
    """What to do about a watched folder that cannot be used."""
    return f"make it (`mkdir -p {folder}`) and let the user who runs the workers read and write there"


def login_keys(options: Connection) -> list[str]:
    """The settings that identify the account at the vendor."""
    from pydantic import SecretStr

    login = set(options.login())

    def plain(name: str) -> object:
        value = getattr(options, name)
        return value.get_secret_value() if isinstance(value, SecretStr) else value

    names = [name for name in type(options).model_fields if name not in {"name", "system", "url"}]
    return [name for name in names if isinstance(plain(name), str) and plain(name) in login]


def _of_delay(ended: VendorError | GateClosed, table: str) -> str | None:
    """What to do about a failure that may pass. Closed hours need no remedy."""
    from workers.errors import BusyError, ClosedError, TimedOutError, TryLater
    from workers.gate.gate import GateClosed

    url = f"`url` in {table}"
    match ended:
        case ClosedError():
            return None
        case GateClosed():
            remedy = f"wait until {ended.until:%Y-%m-%d %H:%M:%S} UTC"
        case BusyError():
            remedy = "the vendor is serving another client: wait a minute"
        case TimedOutError():
            remedy = f"check {url} and the network; for a slow vendor set a longer `timeout` there"
        case TryLater(after=after) if after is not None:
            remedy = f"wait {spell(after)}, as the vendor asks"
        case TryLater(closes_gate=False):
            remedy = f"the answer is not the vendor's, or incomplete: check {url}"
        case _:
            remedy = f"check {url} and the network; if the vendor has an outage, wait"
    return f"{remedy}, {_AGAIN}"
