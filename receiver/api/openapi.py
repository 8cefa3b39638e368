"""`/openapi.json`: the receiver's OpenAPI 3.1 description. A test compares it with the route table.

It needs the token like every other route: only the operator needs to know which routes exist.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from receiver.api.changes import DEFAULT_LIMIT, KINDS, LARGEST_ID, LARGEST_LIMIT, LONGEST_WAIT
from receiver.api.json_schemas import COUNT, PACKET, SCHEMAS, SHA256, TEXT, Json, object_of, schema
from receiver.webhooks import payload
from workers.commands import acceptance

if TYPE_CHECKING:
    from starlette.requests import Request


class OpenApi:
    """`/openapi.json`."""

    def __init__(self, *, root_path: str) -> None:
        self._description = DESCRIPTION | {"servers": [{"url": root_path or "/"}]}

    @property
    def route(self) -> Route:
        """The route."""
        return Route("/openapi.json", self.show)

    async def show(self, _: Request) -> Response:
        """The description."""
        return JSONResponse(self._description)


def _ref(kind: str, name: str) -> Json:
    return {"$ref": f"#/components/{kind}/{name}"}


def _answer(description: str, content: Json) -> Json:
    return {"description": description, "content": {"application/json": {"schema": content}}}


def _errors(*names: str) -> Json:
    return {name[:3]: _ref("responses", name) for name in names}


def _operation(summary: str, answers: Json, **more: Any) -> Json:
    """An operation that needs the token."""
    return {"summary": summary, "responses": answers | _errors("401", "403"), **more}


def _parameters(*names: str) -> list[Json]:
    return [_ref("parameters", name) for name in names]


def _query(name: str, description: str, value: Json) -> Json:
    return {"name": name, "in": "query", "description": description, "schema": value}


def _path(name: str, description: str, value: Json) -> Json:
    return {"name": name, "in": "path", "required": True, "description": description, "schema": value}


# Operations

# Not required, because a schema cannot express that the packet is either here or in the query.
_FORM = object_of({}, packet={"type": "string", "contentMediaType": "application/json", "contentSchema": PACKET})
_WEBHOOK_BODY: Json = {
    "description": f"The packet, unless it is in the query; at most {payload.MAX_BODY} bytes.",
    "content": {
        "application/json": {"schema": schema("Packet")},
        "application/x-www-form-urlencoded": {"schema": _FORM},
        "multipart/form-data": {"schema": _FORM},
    },
}
_WEBHOOK: Json = {
    "summary": "Accept one webhook.",
    "description": "200 once the webhook is durable. A packet about nothing that is mirrored is stored as ignored.",
    "security": [],
}
_WEBHOOK_ANSWERS: Json = {"200": _answer("Durable.", schema("Ok"))}
_GET_WEBHOOK: Json = _WEBHOOK | {
    "parameters": _parameters("packet"),
    "responses": _WEBHOOK_ANSWERS | _errors("400", "403", "404", "414", "503-not-durable"),
}
_POST_WEBHOOK: Json = _WEBHOOK | {
    "requestBody": _WEBHOOK_BODY,
    "parameters": _parameters("posted-packet"),
    "responses": _WEBHOOK_ANSWERS | _errors("400", "403", "404", "408", "413", "414", "503-not-durable"),
}
_POLL = _operation(
    "Poll now.", {"202": _answer("Due; a worker is woken.", schema("Ok")), **_errors("404", "503-database")}
)
_HAND_IN = _operation(
    "Hand in a PDF.",
    {
        "202": _answer("Durable. The same content is one document, however often it is sent.", schema("Receipt")),
        **_errors("400", "404", "408", "413", "503-not-durable"),
    },
    requestBody={
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": object_of(
                    {"file": {"type": "string", "format": "binary", "description": "With a file name."}},
                    order_id={"type": "string", "maxLength": 200, "description": "The order it belongs to; one line."},
                )
            }
        },
    },
)
_SHOW_DOCUMENT = _operation(
    "A document's state, and the vendor's interpretation of it.",
    {"200": _answer("The document.", schema("DocumentStatus")), **_errors("404", "503-database")},
)
_NAME: Json = TEXT | {"pattern": "^[^\\x00]+$"}
_READ_CHANGES = _operation(
    "The journal, page by page or as it is written.",
    {
        "200": {
            "description": "A page, or Server-Sent Events if Accept names them.",
            "content": {
                "application/json": {"schema": schema("Changes")},
                "text/event-stream": {"schema": {"type": "string"}},
            },
        },
        **_errors("400", "404", "410", "503-changes"),
    },
    description=(
        "An event's id is the entry's, its type the entry's kind, its data the entry as pages have it. The first event "
        "is `feed`, with the feed's name and the oldest entry; when the feed changes there is another, and the stream "
        "ends: start again from 0. After 15 seconds without an event there is a comment, and an id that passes over "
        "the entries that a filter left out. `limit` and `wait` do not apply to events."
    ),
    parameters=[
        _query("after", "The last id that the caller has.", COUNT | {"maximum": LARGEST_ID, "default": 0}),
        _query(
            "limit",
            "At most so many.",
            {"type": "integer", "minimum": 1, "maximum": LARGEST_LIMIT, "default": DEFAULT_LIMIT},
        ),
        _query("connection", "Only its entries.", _NAME),
        _query("resource", "Only its entries.", _NAME),
        _query("kind", "Only entries of this kind.", {"type": "string", "enum": KINDS}),
        _query("key", "Only the entries of objects with this key.", _NAME),
        _query(
            "wait",
            "Seconds to wait for an entry if there is none.",
            {"type": "integer", "minimum": 0, "maximum": LONGEST_WAIT, "default": 0},
        ),
        {
            "name": "Last-Event-ID",
            "in": "header",
            "description": "The last id that the caller of an event stream has. It counts there, not `after`.",
            "schema": COUNT | {"maximum": LARGEST_ID},
        },
    ],
)
_COMMAND_SECURITY: Json = {"security": [{"commands_token": []}]}
_LIST_ACTIONS: Json = {
    "summary": "The writes that the connection allows, each with the JSON Schema of its arguments.",
    "responses": {"200": _answer("The catalogue.", schema("Catalogue")), **_errors("401", "404")},
    **_COMMAND_SECURITY,
}
_SEND_COMMAND: Json = {
    "summary": "Accept one command: a write to the vendor.",
    "description": (
        "202 once it is durable; it is sent at most once. The same command with the same Idempotency-Key is one. "
        "While the database is away it is not accepted, because neither order nor key could be kept."
    ),
    "parameters": [
        {
            "name": "Idempotency-Key",
            "in": "header",
            "required": True,
            "description": "The caller's own name for this command.",
            "schema": {"type": "string", "pattern": f"^[!-~]{{1,{acceptance.LONGEST_KEY}}}$"},
        }
    ],
    "requestBody": {
        "required": True,
        "description": f"At most {acceptance.LARGEST_BODY} bytes.",
        "content": {
            "application/json": {
                "schema": object_of(
                    {"action": TEXT, "arguments": {"type": "object"}},
                    resource={"type": ["string", "null"], "description": "Where the catalogue has one."},
                )
                | {"additionalProperties": False}
            }
        },
    },
    "responses": {
        "202": _answer("Durable.", schema("CommandReceipt")),
        **{
            status: _answer(description, schema("CommandError"))
            for status, description in (
                ("400", "Malformed, or no Idempotency-Key."),
                ("403", "The connection does not allow this action."),
                ("404", "No such action, or the connection takes no commands."),
                ("413", "The body is too large."),
                ("422", "Mistakes in the arguments, or the key belongs to another command."),
                ("429", "Too many commands in a minute."),
            )
        },
        **_errors("401", "408", "503-not-durable"),
    },
    **_COMMAND_SECURITY,
}
_SHOW_COMMAND: Json = {
    "summary": "A command, and what became of it.",
    "responses": {
        "200": _answer("The command.", schema("CommandStatus")),
        **_errors("401", "404", "503-database"),
    },
    **_COMMAND_SECURITY,
}
_READYZ = _operation(
    "Whether database and broker answer.",
    {
        "200": _answer("They do.", schema("Readiness")),
        "503": _answer("One of them does not.", schema("Readiness")),
    },
)
_METRICS = _operation(
    "For Prometheus.", {"200": {"description": "Its text format.", "content": {"text/plain": {"schema": TEXT}}}}
)
_OPENAPI = _operation("This description.", {"200": _answer("OpenAPI 3.1.", {"type": "object"})})
_LIVEZ: Json = {
    "summary": "Whether this process runs.",
    "security": [],
    "responses": {"200": _answer("It does.", schema("Ok"))},
}

# The whole


def _error(description: str, **headers: str) -> Json:
    described = {
        name.replace("_", "-"): {"schema": {"type": "string"}, "description": headers[name]} for name in headers
    }
    return _answer(description, schema("Error")) | ({"headers": described} if described else {})


_PACKET_PARAMETER: Json = {
    "name": "packet",
    "in": "query",
    "description": f"The packet as JSON. The whole query has at most {payload.MAX_QUERY} bytes.",
    "content": {"application/json": {"schema": schema("Packet")}},
}

DESCRIPTION: Json = {
    "openapi": "3.1.0",
    "info": {
        "title": "erpmirror's receiver",
        "version": "1",
        "description": (
            "Webhooks and documents in, the journal out. What is not HTTP is answered 400, a head that is too large "
            "414 or 431. HEAD is answered wherever GET is, except by webhooks. Without a configured token, "
            "direct callers on the same machine are allowed and all others answered 403."
        ),
    },
    "security": [{"token": []}],
    "paths": {
        "/hooks/{connection}": {"parameters": _parameters("connection"), "get": _GET_WEBHOOK, "post": _POST_WEBHOOK},
        "/hooks/{connection}/{secret}": {
            "parameters": _parameters("connection", "secret"),
            "get": _GET_WEBHOOK,
            "post": _POST_WEBHOOK,
        },
        "/polls/{connection}": {"parameters": _parameters("connection"), "post": _POLL},
        "/polls/{connection}/{resource}": {"parameters": _parameters("connection", "resource"), "post": _POLL},
        "/documents/{connection}/{kind}": {"parameters": _parameters("connection", "kind"), "post": _HAND_IN},
        "/documents/{connection}/{kind}/{sha256}": {
            "parameters": _parameters("connection", "kind", "sha256"),
            "get": _SHOW_DOCUMENT,
        },
        "/commands/{connection}": {
            "parameters": _parameters("connection"),
            "get": _LIST_ACTIONS,
            "post": _SEND_COMMAND,
        },
        "/commands/{connection}/{id}": {"parameters": _parameters("connection", "command"), "get": _SHOW_COMMAND},
        "/changes": {"get": _READ_CHANGES},
        "/livez": {"get": _LIVEZ},
        "/readyz": {"get": _READYZ},
        "/metrics": {"get": _METRICS},
        "/openapi.json": {"get": _OPENAPI},
    },
    "components": {
        "securitySchemes": {
            "token": {"type": "http", "scheme": "bearer", "description": "`token` of `[receiver]` in erpmirror.toml."},
            "commands_token": {
                "type": "http",
                "scheme": "bearer",
                "description": "`commands_token` of the connection in erpmirror.toml; it opens nothing else.",
            },
        },
        "parameters": {
            "connection": _path("connection", "Its name in erpmirror.toml.", TEXT),
            "secret": _path("secret", "`webhook_secret` of the connection.", TEXT),
            "resource": _path("resource", "The vendor's name of a kind of object.", TEXT),
            "kind": _path("kind", "A kind of document that the connection takes.", TEXT),
            "sha256": _path("sha256", "Of the document's content.", SHA256),
            "command": _path("id", "The command's number.", COUNT),
            "packet": _PACKET_PARAMETER | {"required": True},
            "posted-packet": _PACKET_PARAMETER,
        },
        "schemas": SCHEMAS,
        "responses": {
            "400": _error("Malformed."),
            "401": _error("The token is missing or wrong.", WWW_Authenticate="Bearer"),
            "403": _error("The sender is not allowed, or the URL ends in a wrong secret."),
            "404": _error("No such connection, resource, kind, document or command."),
            "408": _error("The body did not arrive in time."),
            "410": _error("Entries after it were trimmed, or a backup was restored; start again with after=0."),
            "413": _error("The body is too large."),
            "414": _error("The query is too long."),
            "503-database": _error("The database does not answer."),
            "503-changes": _error(
                "The database does not answer, or too many readers wait.", Retry_After="Seconds, of too many readers."
            ),
            "503-not-durable": _error("It cannot be made durable; send it again later.", Retry_After="Seconds."),
        },
    },
}
