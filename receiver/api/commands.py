"""`/commands`: writes to a vendor, stored before the response. Each connection has a token of its own for them.

A command never goes to the spool: while the database is away, neither its order nor its idempotency key could be kept.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any

import sqlalchemy as sa
from msgspec import Meta
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response
from starlette.routing import Route

from models.bookkeeping import commands
from models.bookkeeping.commands import Command, State
from models.settings.connections import TakesCommands
from receiver.http import auth, body, client_address
from receiver.http.answers import Answer, AnswerResponse, Count, Object, Text, Timestamp, iso
from receiver.http.client_address import NetworkAllowList
from receiver.http.errors import ApiError
from workers import context as contexts
from workers.commands import acceptance, schemas
from workers.commands.acceptance import RejectedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request

    from models.db.database import Database
    from models.settings.load import Settings
    from workers.context import ConnectionContext


_READ_SECONDS = 10.0
"""A command's body is small; one that takes longer only occupies a connection."""


class CommandReceipt(Answer, frozen=True):
    """A command that was stored. The same command with the same Idempotency-Key is one, `new` only the first time."""

    command: Count
    state: State
    new: bool


class CommandStatus(Answer, frozen=True):
    """A command, and what became of it."""

    command: Count
    connection: Text
    action: Text
    resource: str | None
    key: Annotated[str | None, Meta(description="Of the object that it writes, or has created.")]
    arguments: Annotated[Object, Meta(description="Without what the connection omits.")]
    state: State
    needs_person: Annotated[bool, Meta(description="Nothing more happens to it until a person decides.")]
    attempts: Count
    reason: Annotated[str | None, Meta(description="Why it waits, was refused or is uncertain.")]
    answer: Annotated[Any, Meta(description="The vendor's answer.")]
    accepted_at: Timestamp
    sent_at: Timestamp | None
    answered_at: Timestamp | None


class AllowedAction(Answer, frozen=True):
    """A kind of write, with the JSON Schema of its arguments, the rules that a schema cannot say, and an example."""

    action: Text
    resource: str | None
    title: Text
    rules: list[str]
    schema: Object
    example: Object
    source: Text


class Catalogue(Answer, frozen=True):
    """The writes that a connection allows."""

    actions: list[AllowedAction]


class CommandError(Answer, frozen=True):
    """A command that is not accepted. `errors`: every mistake in its arguments, with its place."""

    error: Annotated[str, Meta(pattern="^[a-z_]+$")]
    message: Text
    errors: list[dict[str, str]]


class Commands:
    """`/commands/{connection}[/{id}]`. `wake` wakes a worker for the connection after the commit."""

    def __init__(self, settings: Settings, *, database: Database, wake: Callable[[str], None]) -> None:
        self._settings = settings
        self._database = database
        self._wake = wake
        self._proxies = NetworkAllowList(settings.receiver.trusted_proxies)
        self._contexts: dict[str, ConnectionContext] = {}

    @property
    def routes(self) -> list[Route]:
        """The route table: no `Mount`, whose pattern no newline in a path matches."""
        return [
            Route("/commands/{connection}", self.of_connection, methods=["GET", "POST"]),
            Route("/commands/{connection}/{id}", self.show),
        ]

    async def of_connection(self, request: Request) -> Response:
        """One route for both methods: a 405 names all methods of the first route that matches."""
        return await (self.accept if request.method == "POST" else self.catalogue)(request)

    async def catalogue(self, request: Request) -> Response:
        """The actions that are allowed."""
        context = self._authorized(request)
        described = schemas.described(acceptance.allowed_actions(context))
        return AnswerResponse(Catalogue(actions=[AllowedAction(**each) for each in described]))

    async def accept(self, request: Request) -> Response:
        """Check and store one command. 202 once it is durable."""
        context = self._authorized(request)
        caller = self._caller(request)
        try:
            key = acceptance.check_key(_only_header(request, "Idempotency-Key"))
            content = await body.read(request, largest=acceptance.LARGEST_BODY, seconds=_READ_SECONDS)
            stored, new = await run_in_threadpool(self._store, context, content, key, caller)
        except RejectedError as rejected:
            return _rejection(rejected)
        except (sa.exc.SQLAlchemyError, OSError):
            message = "the database did not take it; send it again later with the same Idempotency-Key"
            raise ApiError(503, "not_durable", message, headers={"Retry-After": "5"}) from None
        self._wake(context.name)
        return AnswerResponse(CommandReceipt(command=stored.id, state=stored.state, new=new), 202)

    async def show(self, request: Request) -> Response:
        """The status of one command."""
        context = self._authorized(request)
        found = await run_in_threadpool(self._load, context.name, request.path_params["id"])
        if found is None:
            raise ApiError(404, "unknown_command", "this connection has no such command")
        return AnswerResponse(_status(found))

    def _authorized(self, request: Request) -> ConnectionContext:
        """The connection's context, if the caller has its token. Raises `ApiError`."""
        name = request.path_params["connection"]
        options = self._settings.connections.get(name)
        token = options.commands_token if isinstance(options, TakesCommands) else None
        auth.require_token(request, token)
        if name not in self._contexts:
            self._contexts[name] = contexts.connection_context(self._database, self._settings, name)
        return self._contexts[name]

    def _caller(self, request: Request) -> str:
        peer = request.client.host if request.client else None
        found = client_address.sender(peer, request.headers, proxies=self._proxies)
        return "an unknown address" if found is None else str(found)

    def _store(self, context: ConnectionContext, content: bytes, key: str, caller: str) -> tuple[Command, bool]:
        request = acceptance.parse(content)
        known = acceptance.known(context, request, key=key)
        if known is not None:  # answered as the first time, also where it is not allowed any more
            return known, False
        return acceptance.store(context, acceptance.prepare(context, request, key=key, caller=caller))

    def _load(self, connection: str, command: str) -> Command | None:
        if not re.fullmatch("[0-9]{1,18}", command):
            return None
        with self._database.read() as tx:
            return commands.get(tx, int(command), connection=connection)


def _only_header(request: Request, name: str) -> str | None:
    values = request.headers.getlist(name)
    return values[0] if len(values) == 1 else None


def _rejection(rejected: RejectedError) -> Response:
    errors = [{"path": each.path, "message": each.message} for each in rejected.violations]
    headers = {"Retry-After": "60"} if rejected.status == 429 else None  # noqa: PLR2004
    answer = CommandError(error=rejected.code, message=str(rejected), errors=errors)
    return AnswerResponse(answer, rejected.status, headers=headers)


def _status(found: Command) -> CommandStatus:
    return CommandStatus(
        command=found.id,
        connection=found.connection,
        action=found.action,
        resource=found.resource,
        key=found.result_key or found.key or None,
        arguments=found.arguments,
        state=found.state,
        needs_person=found.waits_for_person,
        attempts=found.attempts,
        reason=found.reason,
        answer=found.answer,
        accepted_at=found.accepted_at.isoformat(),
        sent_at=iso(found.sent_at),
        answered_at=iso(found.answered_at),
    )
