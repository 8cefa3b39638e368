"""Remedies for a failed check of a connection, by the class of its failure."""

# ruff: noqa: PLC0415 - what a verb needs is imported when it runs: `--help` stays fast

from __future__ import annotations

from typing import TYPE_CHECKING

from models.durations import spell

if TYPE_CHECKING:
    from models.settings.connections import Connection
    from workers.errors import VendorError
    from workers.gate.gate import GateClosed

_CHECK_AGAIN = "then run `erpmirror check` again"

CLOCK = "set this machine's clock or the vendor's, whichever is wrong (`date -u` shows this one's)"


def of_login(failure: VendorError | GateClosed, options: Connection, table: str) -> str | None:
    """The remedy for a failed login. `table`: the connection's table and its file."""
    from workers.errors import SetAside

    if not isinstance(failure, SetAside):
        return _of_try_later(failure, table)
    keys = " and ".join(f"`{name}`" for name in login_keys(options))
    return f"correct {keys} in {table}; if the message above is not a refusal, correct `url`"


def of_resource(failure: VendorError | GateClosed, resource: str, table: str) -> str | None:
    """The remedy for a resource that could not be read."""
    from workers.errors import SetAside

    if not isinstance(failure, SetAside):
        return _of_try_later(failure, table)
    if failure.whole_resource:
        return f"give this login the right to read {resource} at the vendor, or leave it out of `resources` in {table}"
    return (
        f"the answer is not what this vendor documents: check that `url` in {table} is its address and that no proxy "
        f"changes its answers, {_CHECK_AGAIN}; `erpmirror ask` prints them"
    )


def of_folder(folder: str) -> str:
    """The remedy for a watched folder that cannot be used."""
    return f"create it (`mkdir -p {folder}`) and let the workers' user read and write there"


def login_keys(options: Connection) -> list[str]:
    """The settings that identify the account at the vendor."""
    from pydantic import SecretStr

    login = set(options.login())

    def plain(name: str) -> object:
        value = getattr(options, name)
        return value.get_secret_value() if isinstance(value, SecretStr) else value

    names = [name for name in type(options).model_fields if name not in {"name", "system", "url"}]
    return [name for name in names if isinstance(plain(name), str) and plain(name) in login]


def _of_try_later(failure: VendorError | GateClosed, table: str) -> str | None:
    """The remedy for a failure that may pass. None for closed hours: they need none."""
    from workers.errors import BusyError, ClosedError, InsecureError, TimedOutError, TryLater
    from workers.gate.gate import GateClosed

    url = f"`url` in {table}"
    match failure:
        case ClosedError():
            return None
        case GateClosed():
            remedy = f"wait until {failure.until:%Y-%m-%d %H:%M:%S} UTC"
        case InsecureError():
            remedy = f"correct what the message names, in {table} or at the server"
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
    return f"{remedy}, {_CHECK_AGAIN}"
