"""What the workers need to work for one connection: its settings, resources, gate and vendor client."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING

from models import exact, redaction
from models.bookkeeping import stream_plans
from models.mirror.target import Target
from models.settings.connections import TakesCommands
from workers.connectors import discovery
from workers.connectors.contract import ClientRuntime
from workers.gate import gate

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from models.bookkeeping.streams import Stream
    from models.db.database import Database
    from models.settings.connections import Connection
    from models.settings.load import Settings
    from workers.connectors.commands import Action, Unique
    from workers.connectors.contract import Client, Resource
    from workers.connectors.discovery import System


@dataclass(frozen=True)
class ConnectionContext:
    """One configured connection, with what belongs to it. Cheap to make: it opens nothing before it is used.

    `keeps_client`: the vendor's client stays open between work sessions, which must not overlap then.
    """

    database: Database
    settings: Settings
    options: Connection
    keeps_client: bool = False

    @property
    def name(self) -> str:
        """The connection's name."""
        return self.options.name

    @cached_property
    def system(self) -> System:
        """The ERP that this connection is to."""
        return discovery.systems()[self.options.system]

    @cached_property
    def resources(self) -> dict[str, Resource]:
        """The configured resources by name."""
        return {resource.name: resource for resource in self.system.resources(self.options)}

    @cached_property
    def actions(self) -> dict[tuple[str, str | None], Action]:
        """Every write of the vendor's API, by its name and the resource that is named beside it, allowed or not."""
        declared = self.system.actions
        return {} if declared is None else {(each.name, each.resource): each for each in declared(self.options)}

    def unique_field(self, action: Action, resource: str) -> Unique | None:
        """The field by which a new object of the resource is found again; None if the settings name none."""
        named = self.options.unique.get(resource) if isinstance(self.options, TakesCommands) else None
        return action.unique.get(resource, {}).get(named or "")

    @cached_property
    def same_account(self) -> list[Connection]:
        """The other connections to the same account."""
        account = gate.account_of(self.options)
        others = (each for each in self.settings.connections.values() if each.name != self.name)
        return [each for each in others if each.url == self.options.url and gate.account_of(each) == account]

    @cached_property
    def gate(self) -> gate.Gate:
        """The account's gate."""
        return gate.Gate(self.database, self.options, same_account=self.same_account)

    @property
    def omit(self) -> tuple[str, ...]:
        """The rules that say what is never stored."""
        return (*self.options.omit, *self.options.secrets)

    @cached_property
    def settings_fingerprint(self) -> str:
        """A keyed hash of the connection's settings."""
        return gate.fingerprint_of(self.options)

    def target(self, resource: Resource, stream: Stream | None = None) -> Target:
        """The resource as the write path needs it. Its shape is the vendor's metadata, if the stream has it."""
        return Target(
            connection=self.name,
            system=self.options.system,
            resource=resource.name,
            omit=self.omit,
            shape=(stream.declared_fields if stream else None) or resource.shape,
            hints=resource.hints,
            notes=resource.notes,
            project=resource.project,
        )

    @cached_property
    def _mask(self) -> redaction.Mask:
        return redaction.Mask(self.options.secret_values)

    def redact_text(self, text: str) -> str:
        """The text without this connection's secrets, storable: a vendor's error may repeat what was sent."""
        return exact.storable_text(self._mask(text))

    def now(self) -> datetime:
        """The database's clock."""
        with self.database.read() as tx:
            return tx.now

    @contextmanager
    def work_session(self) -> Iterator[WorkSession]:
        """Open the vendor's client for the block."""
        session = WorkSession(self)
        cached = self._idle_clients.pop() if self._idle_clients else _CachedClient(self)
        session.client, cached.session = cached.client, session
        try:
            yield session
            if self.keeps_client:  # not after an exception, because its connection may be broken
                self._idle_clients.append(cached)
        finally:
            cached.session = None
            if cached not in self._idle_clients:
                cached.client.close()

    @cached_property
    def _idle_clients(self) -> list[_CachedClient]:
        """Clients that earlier work sessions left open."""
        return []

    @cached_property
    def turns(self) -> Turns:
        """Whose turn it is between commands and other work."""
        return Turns()

    @property
    def plans(self) -> list[stream_plans.Plan]:
        """The configured resources, as `streams` needs them."""
        return [
            stream_plans.Plan(
                resource.name,
                resource.total_bound,
                polls=resource.every is not None,
                selection=resource.selection,
                omit=self.omit,
                settings=self.settings_fingerprint,
            )
            for resource in self.resources.values()
        ]

    def sync_streams(self) -> None:
        """Bring the streams in line with the configured resources."""
        with self.database.begin() as tx:
            stream_plans.sync(tx, connection=self.name, system=self.options.system, plans=self.plans)


@dataclass
class Turns:
    """Whose turn it is in this process. It outlives a task, in which a slow vendor answers few requests.

    `was_command`: the last live work was a command; `commands`: how many there were since other work had a turn.
    """

    was_command: bool = False
    commands: int = 0


class _CachedClient:
    """A vendor's client and the work session that uses it now: requests and arriving bytes renew its lease."""

    def __init__(self, context: ConnectionContext) -> None:
        self.session: WorkSession | None = None
        runtime = ClientRuntime(
            heartbeat=self._heartbeat,
            sessions=context.gate.sessions,
            now=context.now,
            before_request=self._before_request,
        )
        self.client = context.system.client(context.options, runtime)

    def _heartbeat(self) -> None:
        if self.session is not None:
            self.session.heartbeat()

    def _before_request(self) -> None:
        if self.session is not None:
            self.session.before_request()


class WorkSession:
    """One task's work for a connection: its client, the lease it holds, and its counts.

    - `requests`: how many it has sent to the vendor, logins included
    - `has_more`: the task stopped before everything that is due was done
    - `deadline`: when it has to stop, by the monotonic clock
    - `steps`: how often it has read what is due
    - `has_complete_resource`: a resource has become complete, as of the last step
    """

    client: Client

    def __init__(self, context: ConnectionContext) -> None:
        self.context = context
        self.requests = 0
        self.changes = 0
        self.has_more = False
        self.steps = 0
        self.has_complete_resource = False
        self.deadline = 0.0
        self._lease: gate.Lease | None = None

    @contextmanager
    def acquire(self, subject: str | None = None, *, on_acquire: gate.OnAcquire | None = None) -> Iterator[gate.Lease]:
        """Hold a lease for the block: for a point read of `subject`, or for a listing (None). Raises `GateClosed`.

        `on_acquire` runs in the transaction that takes the lease.
        """
        with gate.acquired(self.context.gate, subject, on_acquire=on_acquire) as lease:
            self._lease = lease
            try:
                yield lease
            finally:
                self._lease = None

    def before_request(self) -> None:
        """A request is about to be sent: count it, renew the lease and wait for the rate limit."""
        self.requests += 1
        if self._lease is not None:
            self.context.gate.before_request(self._lease)

    def heartbeat(self) -> None:
        """Bytes have arrived: renew the lease, so that a long stream keeps it."""
        if self._lease is not None:
            self.context.gate.heartbeat(self._lease)


def import_clients(settings: Settings) -> None:
    """Import what the configured systems' clients need, and read the public CAs."""
    connections = settings.connections.values()
    for system in {discovery.systems()[each.system] for each in connections}:
        _ = system.client, system.webhooks
    for route in {each.route for each in connections}:
        with suppress(ValueError):  # a certificate's file that cannot be used: the client says so
            route.tls_context()


def all_contexts(database: Database, settings: Settings) -> list[ConnectionContext]:
    """The context of every configured connection."""
    return [ConnectionContext(database, settings, options) for options in settings.connections.values()]


def connection_context(
    database: Database, settings: Settings, name: str, *, keeps_client: bool = False
) -> ConnectionContext:
    """The context of one connection. The LookupError for an unknown name lists the configured ones."""
    options = settings.connections.get(name)
    if options is None:
        known = ", ".join(sorted(settings.connections)) or "none"
        raise LookupError(f'no connection "{name}" in {settings.file}; configured: {known}')
    return ConnectionContext(database, settings, options, keeps_client)


_SYNCED_AT_ONCE = 100
"""Connections whose streams one transaction changes."""


def sync_streams(database: Database, settings: Settings) -> None:
    """Bring all streams in line with the configuration, and retire those of connections that left it."""
    contexts = sorted(all_contexts(database, settings), key=lambda each: each.name)  # the order of the locks
    with database.read() as tx:
        matching = stream_plans.matching(tx, {each.name: each.plans for each in contexts})
    changed = iter([each for each in contexts if each.name not in matching])
    while batch := list(islice(changed, _SYNCED_AT_ONCE)):
        with database.begin() as tx:
            for each in batch:
                stream_plans.sync(tx, connection=each.name, system=each.options.system, plans=each.plans)
    with database.begin() as tx:
        stream_plans.retire(tx, configured=settings.connections)
