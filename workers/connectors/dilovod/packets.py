"""Dilovod's packets: each request is one JSON object POSTed to the same address."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from models import exact
from workers.connectors import http, streaming
from workers.connectors.dilovod import answers
from workers.errors import TryLater

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from models.values import JsonObject
    from workers.connectors.contract import ClientRuntime
    from workers.connectors.dilovod.options import Options

_OK = 200


class Packets:
    """Sends an action with its params, and decodes the answer; every method raises the families of `workers.errors`."""

    def __init__(self, options: Options, runtime: ClientRuntime) -> None:
        self._options = options
        self._key = options.api_key.get_secret_value()
        self._secrets = {self._key}  # partners' keys are added when they are sent
        self._http = http.Http(
            runtime,
            base_url=options.url,
            timeout=options.timeout,
            route=options.route,
            redact=lambda text: answers.redact(text, self._secrets),
        )

    def close(self) -> None:
        """Close the HTTP connection."""
        self._http.close()

    def answer(self, action: str, params: JsonObject, *, listing: bool = False) -> Any:
        """The decoded answer. `listing`: it may have rows that cannot be read."""
        return self.answer_and_clock(action, params, listing=listing)[0]

    def answer_and_clock(
        self, action: str, params: JsonObject, *, listing: bool = False
    ) -> tuple[Any, datetime | None]:
        """The decoded answer, and Dilovod's clock (aware; None without a Date header)."""
        self._secrets |= {str(params.get("partnerAPIkey", ""))}
        reply = self._http.read("POST", "", **self._request_body(action, params))
        return self._decode(reply.status, reply.body, listing=listing), reply.date

    def write(self, action: str, params: JsonObject) -> Any:
        """The decoded answer of a write. RefusedError: it was not done; most other errors leave that open."""
        reply = self._http.read("POST", "", **self._request_body(action, params))
        answer = self._if_ok(reply.status, self._json(reply.status, reply.body))  # Dilovod's own errors are HTTP 200
        answers.raise_for_write_error(answer, secrets=self._secrets)
        return answer

    def preview(self, action: str, params: JsonObject) -> JsonObject:
        """The request that `write` would make, without the key."""
        return self._http.preview("POST", "", **self._request_body(action, params))

    @contextmanager
    def rows(self, params: JsonObject) -> Iterator[http.Peeked]:
        """The body of a `request` whose answer is a list, to be read as it arrives."""
        with self._http.stream("POST", "", **self._request_body("request", params)) as streamed:
            body = http.Peeked(streamed)
            if streamed.status != _OK or body.first != b"[":
                raise answers.malformed_error(self._decode(streamed.status, body.read()), "a list of rows")
            yield body

    def _request_body(self, action: str, params: JsonObject) -> dict[str, Any]:
        packet: JsonObject = {"version": self._options.version, "key": self._key}
        if self._options.client_id is not None:
            packet["clientID"] = self._options.client_id
        packet |= {"action": action, "params": params}
        if self._options.packet == "form":
            return {"data": {"packet": exact.dumps(packet)}}  # percent-encoded, unlike the sample in the help
        return {"content": exact.dumps(packet).encode(), "headers": {"Content-Type": "application/json"}}

    def _decode(self, status: int, body: bytes, *, listing: bool = False) -> Any:
        answer = self._json(status, body, listing=listing)
        answers.raise_for_error(answer, secrets=self._secrets)
        return self._if_ok(status, answer)

    def _json(self, status: int, body: bytes, *, listing: bool = False) -> Any:
        try:
            return streaming.decode_listing(body) if listing else exact.loads_leniently(body)
        except ValueError:
            raise answers.not_json_error(status, body, self._secrets) from None

    def _if_ok(self, status: int, answer: Any) -> Any:
        if status != _OK:
            raise TryLater(f"HTTP {status}: {answers.describe(answer)}")
        return answer
