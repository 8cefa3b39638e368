"""The writes of the Wisedat client: one request that writes, and the reads that tell whether it arrived."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from models import exact
from models.values import Snapshot, Tombstone
from workers.connectors import objects
from workers.connectors.commands import GONE, GoneType, Sent
from workers.connectors.wisedat import answers, command_shown, table, write_answers
from workers.connectors.wisedat.command_table import (
    ADDRESSES,
    CHOOSES_ITS_ID,
    CREATE,
    DELETE,
    METHODS,
    spellings,
)
from workers.connectors.wisedat.commands import id_text, subject
from workers.errors import RefusedError, SetAside, TryLater, VendorError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from models.values import JsonObject, ObjectRef, Withheld
    from workers.connectors.commands import Action
    from workers.connectors.http import Http, Reply
    from workers.connectors.wisedat.auth import Login
    from workers.connectors.wisedat.options import Options

_HIDES_INACTIVE = frozenset({"products", "customers", "salesmen", "suppliers"})
_JSON = {"Content-Type": "application/json; charset=utf-8"}
_MOST_CANDIDATES = 50
"""Orders whose detail is read to find one by its token. It stands in one or two."""

_UNAVAILABLE: JsonObject = {"detail_unavailable": True}


class Writes(ABC):
    """What the client has in addition to reads; implements `workers.connectors.commands.CommandClient`.

    `_known_paths`: which spelling of an address this server knows, by verb and resource. Kept in this process only:
    another learns it again, by a request that writes nothing.
    """

    _options: Options
    _login: Login
    _http: Http
    _known_paths: dict[tuple[str, str], str]

    @abstractmethod
    def read(self, name: str, /, **parameters: Any) -> Any:
        """Make one GET request."""

    @abstractmethod
    def read_all(self, name: str, /, **filters: Any) -> Iterator[JsonObject]:
        """Yield all objects that match the filters."""

    @abstractmethod
    def fetch_named(self, name: str, key: str) -> Snapshot | Tombstone | Withheld:
        """`fetch` of a resource by its name."""

    def send(self, action: Action, arguments: JsonObject) -> Sent:
        """POST, PUT or DELETE, at the address that the document has; at the plural one if the server knows no such.

        A second address is tried only after 404 or 405, which no server answers to a write that it has done, and after
        a 404 only if a read shows that the object exists, so that it was not about the object.
        """
        verb, resource = action.name, str(action.resource)
        tried: list[str] = []
        for path in self._paths(verb, resource):
            reply = self._write(verb, path, arguments)
            if not write_answers.is_unknown_path(reply):
                if write_answers.is_apis_own(reply):
                    self._known_paths[verb, resource] = path
                return self._sent(reply, verb, resource, arguments)
            if not write_answers.is_about_the_path_alone(reply):
                self._require_existence(reply, action, arguments)
            tried.append(f"{METHODS[verb]} /{path}")
        error = write_answers.not_found(reply, tried, was_known=(verb, resource) in self._known_paths)
        raise self._redacted(error)

    def preview(self, action: Action, arguments: JsonObject) -> JsonObject:
        """The request that `send` would make first."""
        verb = action.name
        path = self._paths(verb, str(action.resource))[0]
        return self._http.preview(METHODS[verb], path, **_request(verb, arguments))

    def read_back(self, action: Action, arguments: JsonObject) -> JsonObject | GoneType:
        """The object as `fetch` or the whole list shows it; an address's customer.

        For a deletion, a canceled order is gone: the vendor cancels a closed one instead of deleting it.
        """
        resource = str(action.resource)
        ref = subject(resource, arguments)
        if not table.ROWS[ref.resource].paged:
            return self._in_list(ref)
        found = self.fetch_named(ref.resource, ref.key)
        if isinstance(found, Tombstone):
            return GONE
        if not isinstance(found, Snapshot):
            return dict(_UNAVAILABLE)
        is_canceled = (action.name, resource) == (DELETE, "orders") and command_shown.flag(
            objects.field(found.raw, "canceled")
        )
        return GONE if is_canceled else found.raw

    def find(self, action: Action, arguments: JsonObject, path: tuple[str, ...]) -> Sequence[str]:
        """The keys of the objects with this value, without regard to case. The vendor's filter finds what contains it.

        In a text to which the token was added, the token alone counts: the vendor may have changed what is before it.
        The list does not show an order's reference, so the details of those that the filter finds are read.
        """
        resource, name = str(action.resource), path[-1]
        wanted = command_shown.text(_at(arguments, path))
        if not wanted:
            return []
        appends = any(each.appends for each in action.unique.get(resource, {}).values() if each.path == path)
        wanted = wanted.split()[-1] if appends else wanted
        filters: JsonObject = {name: wanted} if table.ROWS[resource].paged else {}
        if resource in _HIDES_INACTIVE:
            filters["show_inactive"] = True
        found: list[JsonObject] = []
        for place, row in enumerate(self.read_all(resource, **filters)):
            shown = self._detail(row, place=place) if resource == "orders" else row
            if shown is None or _holds(objects.field(shown, name), wanted, as_a_part=appends):
                found.append({"id": objects.field(row, "id")})
        is_keyed = resource not in self._options.keys
        return [subject(resource, each, is_keyed=is_keyed).key for each in found if each["id"] is not None]

    def also_changes(self, action: Action, arguments: JsonObject) -> Sequence[ObjectRef]:  # noqa: ARG002
        """Nothing: each write changes the one object that it names."""
        return ()

    def _paths(self, verb: str, resource: str) -> list[str]:
        """The spellings to try; the one that the server is known to know comes first."""
        known = self._known_paths.get((verb, resource))
        return sorted(spellings(verb, resource), key=lambda path: path != known)

    def _write(self, verb: str, path: str, arguments: JsonObject) -> Reply:
        """Make the request. An error before it was sent has `refused` or `whole_resource`, because it wrote nothing."""
        try:
            reply = self._http.read(METHODS[verb], path, **_request(verb, arguments))
        except VendorError as error:
            if not self._login.is_out:
                write_answers.refused_unsent(error)
            raise self._redacted(error) from None
        if not self._login.is_out:
            raise TryLater(f"the login before the write was answered HTTP {reply.status}", refused=True)
        return reply

    def _sent(self, reply: Reply, verb: str, resource: str, arguments: JsonObject) -> Sent:
        is_chosen = verb == CREATE and resource not in {ADDRESSES, *CHOOSES_ITS_ID}
        known = "" if is_chosen else subject(resource, arguments).key
        try:
            answer, id_ = write_answers.done(reply, verb=verb, resource=resource, known=known)
        except VendorError as error:
            raise self._redacted(error) from None
        if is_chosen and not id_:
            return Sent(answer, None)
        named = arguments if not is_chosen else {"id": id_}
        return Sent(answer, subject(resource, named, is_keyed=resource not in self._options.keys))

    def _require_existence(self, reply: Reply, action: Action, arguments: JsonObject) -> None:
        """Raise unless a read shows that a 404 was not about the object, so that it was about the address."""
        try:
            exists = self._exists(action, arguments)
        except TryLater as error:
            error.refused = True  # the write was answered 404
            raise
        except SetAside as error:
            raise self._redacted(RefusedError(f"{write_answers.words(reply)}; it cannot be read: {error}")) from None
        if not exists:
            raise self._redacted(RefusedError(f"{write_answers.words(reply)}; it does not exist"))

    def _exists(self, action: Action, arguments: JsonObject) -> bool:
        """Whether what the write is about exists; True for a creation, if the vendor answers at all."""
        resource = str(action.resource)
        if action.name == CREATE and resource != ADDRESSES:
            self.read(resource, **({"limit": 1} if table.ROWS[resource].paged else {}))
            return True
        found = self.read_back(action, arguments)
        if isinstance(found, GoneType):
            return False
        is_address = resource == ADDRESSES and action.name != CREATE
        return not is_address or command_shown.has_address(arguments, found)

    def _in_list(self, ref: ObjectRef) -> JsonObject | GoneType:
        """The object in a list that comes whole, in the form in which the mirror has it."""
        listed = answers.parse_list(table.ROWS[ref.resource], self.read(ref.resource))
        rows = (row for row in listed if isinstance(row, dict))
        return next((row for row in rows if id_text(ref.resource, objects.field(row, "id")) == ref.key), GONE)

    def _detail(self, row: JsonObject, *, place: int) -> JsonObject | None:
        """An order's detail; None if the API cannot show it, so that only the filter tells what it holds."""
        if place >= _MOST_CANDIDATES:
            raise SetAside(f"more than {_MOST_CANDIDATES} orders: this server ignores the filter by your_reference")
        try:
            found = self.read("orders", id=objects.field(row, "id"))
        except answers.DetailWithheldError:
            return None
        except answers.NotFoundError:
            return {}
        return answers.require_object(found)

    def _redacted(self, error: VendorError) -> VendorError:
        error.args = (self._login.redact(str(error)),)
        return error


def _request(verb: str, arguments: JsonObject) -> dict[str, Any]:
    """The arguments in the form in which `Http.read` takes them: a deletion's are its query."""
    if verb == DELETE:
        return {"params": {name: _parameter(value) for name, value in arguments.items()}}
    return {"content": exact.dumps(arguments).encode(), "headers": _JSON}


def _parameter(value: Any) -> str:
    return value if isinstance(value, str) else str(command_shown.number(value))


def _holds(value: Any, wanted: str, *, as_a_part: bool) -> bool:
    shown, sought = command_shown.text(value).casefold(), wanted.casefold()
    return sought in shown.split() if as_a_part else shown == sought


def _at(arguments: JsonObject, path: tuple[str, ...]) -> Any:
    value: Any = arguments
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value
