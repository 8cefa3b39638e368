"""EasyFlor's client: streams of whole collections, changes since a day, and point reads of debtors."""

from __future__ import annotations

import re
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from models.values import Chunk, End, JsonObject, ObjectRef, Shape, Snapshot, Tombstone
from workers.connectors import http, objects, record_states, streaming
from workers.connectors.contract import CheckResult
from workers.connectors.easyflor import answers, cursors, resources, table
from workers.connectors.easyflor.auth import Auth
from workers.errors import ClosedError, MisaskedError, SetAside, TryLater

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from workers.connectors.contract import ClientRuntime, Resource
    from workers.connectors.easyflor.options import Options
    from workers.connectors.record_states import Record

_MAX_SHOWN = 1000
"""Most objects that `ask` returns."""

_PATH = re.compile(r"[\w-]+(/[\w.-]*)*", re.ASCII)
_LOGIN_PATHS = frozenset({"authorization", "authorizationtoken", "unauthorization"})
"""Addresses that return a token or end the session of all workers."""

_ASK_HELP = (
    "ask for an address below /api/, as in: debtor/417; debtorsincedate/20260101; ListArticleSort 1,2,3; "
    "DebtorListArticleSortPrice 417 1,2,3 (a debtor's id, then ids of article sorts)"
)


class Client:
    """One connection's client. See `workers.connectors.contract.Client`."""

    def __init__(self, options: Options, runtime: ClientRuntime) -> None:
        self._options = options
        self._rows = resources.catalogue(options)
        self._auth = Auth(options, runtime)
        self._http = http.Http(
            runtime,
            base_url=f"{options.url}/",
            timeout=options.timeout,
            route=options.route,
            headers={"Accept": "application/json"},
            auth=self._auth,
            redact=self._auth.redact,
        )

    def close(self) -> None:
        """Close the HTTP connection. The session stays, for the account's other workers."""
        self._http.close()

    def shape(self, resource: Resource) -> Shape | None:  # noqa: ARG002 - there is no metadata
        """None: EasyFlor has no metadata; the documented fields are declared in `resources`."""
        return None

    # The contract.

    def fetch(self, resource: Resource, key: str) -> Snapshot | Tombstone:
        """The object by its id. TryLater if the reply describes another object or several."""
        point = self._rows[resource.name].point
        if point is None:
            raise SetAside(f"EasyFlor has no address for a single {resource.name}")
        reply = self._http.read("GET", point.replace(table.KEY, quote(key, safe="")))
        if reply.status != answers.OK:
            failure = answers.ErrorReply.decode(reply.status, reply.body, redact=self._auth.redact)
            if failure.is_gone:
                return Tombstone(key)
            raise failure.to_error(self._options, _clock(reply.date), of_object=True)
        found = answers.decode_whole(reply.body, keep_personal=self._options.keep_personal, redact=self._auth.redact)
        # The documented reply is a list of one.
        records = found if isinstance(found, list) else [found]
        if not records:
            return Tombstone(key)
        if len(records) == 1 and isinstance(records[0], dict) and objects.key_of(resource, records[0]) == key:
            return Snapshot(key, records[0])
        raise TryLater(f"EasyFlor did not answer with {resource.name} {key} when asked for it", closes_gate=False)

    def list(self, resource: Resource, cursor: str | None) -> Iterator[Chunk]:
        """A poll (changes since a day) or a full sync, in one reply.

        A resource without an address for all its objects is read by days from the setting `since`, and never complete.
        """
        position, row = cursors.Position.decode(cursor, self._options), self._rows[resource.name]
        run = cursors.Run(self._options)
        day = position.since or (None if row.path else self._options.since)
        path = str(row.path) if day is None else _since_path(row, cursors.format_day(day, position.form))
        try:
            with self._reply(path) as reply, streaming.SeenKeys() as seen:
                run.observe_clock(reply.date)
                glance = answers.glance(resource, keep_personal=self._options.keep_personal)
                deduplicator, records = _Deduplicator(resource, seen), self._records(reply, glance)
                for batch in streaming.batches(records):
                    yield deduplicator.chunk(batch)
        except answers.BadRequestError:
            if day is None or position.second_try:
                raise
            # Raising would lose the cursor, so the run continues with the other date format.
            yield Chunk(end=End(position.with_other_form().encode(self._options), more=True))
            return
        yield Chunk(end=End(run.next_cursor(position), complete=day is None))

    def list_article_sorts(self, ids: Sequence[int | str]) -> Any:
        """Article sorts of lists, by at most 50 ids. Their fields are not documented.

        `PUT ListArticleSort {"ListArticleSorts": [ids]}` (EasyFlor's export test program; unconfirmed). ValueError for
        no or more ids; raises the families of `workers.errors`.
        """
        return self._read_bounded("PUT", table.SORTS, json={"ListArticleSorts": _at_most(ids, table.MAX_SORTS)})

    def debtor_list_article_sort_prices(self, debtor: int | str, ids: Sequence[int | str]) -> Any:
        """A debtor's prices for article sorts, by at most 25 ids. Their fields are not documented.

        `PUT DebtorListArticleSortPrice {"DebtorId": id, "ListArticleSorts": [ids]}` (EasyFlor's export test program;
        unconfirmed). ValueError for no or more ids; raises the families of `workers.errors`.
        """
        body = {"DebtorId": debtor, "ListArticleSorts": _at_most(ids, table.MAX_PRICES)}
        return self._read_bounded("PUT", table.PRICES, json=body)

    # Check, probe and ask.

    def check(self) -> CheckResult:
        """Prove address and login by a request for the debtors that changed today."""
        clock, _ = self._changed_today(table.DEBTOR)
        unconfirmed = [each.name for each in resources.resources(self._options) if not self._rows[each.name].confirmed]
        note = f"; unconfirmed, so probe them: {', '.join(unconfirmed)}" if unconfirmed else ""
        return CheckResult(f"EasyFlor opens the database {self._options.database}{note}", clock)

    def probe(self, resource: Resource) -> str:
        """Read the first object that changed today; without such an address, the first of all."""
        row = self._rows[resource.name]
        try:
            found = self._changed_today(row)[1] if row.since else self._first(str(row.path))
        except ClosedError as closed:
            return _with_confirmation(row, f"closed until {closed.until:%Y-%m-%d %H:%M} UTC")
        if found is None:
            return _with_confirmation(row, "nothing changed today" if row.since else "it is empty")
        record = objects.as_object(found)
        if objects.key_of(resource, record) is None:
            remedy = _remedy(resource, [record])
            raise SetAside(
                f"{_missing_key(resource)}; it has {objects.field_names(record)}; {remedy}", whole_resource=True
            )
        return _with_confirmation(row, f"its objects have {objects.field_names(record)}")

    def ask(self, words: Sequence[str]) -> Any:
        """`debtor/417`, `debtorsincedate/20260101`, `ListArticleSort 1,2,3`, `DebtorListArticleSortPrice 417 1,2,3`."""
        try:
            match words:
                case [name, ids] if name.lower() == table.SORTS.lower():
                    return self.list_article_sorts(_numbers(ids))
                case [name, debtor, ids] if name.lower() == table.PRICES.lower():
                    return self.debtor_list_article_sort_prices(_number(debtor), _numbers(ids))
                case [path] if _PATH.fullmatch(path) and ".." not in path and not _is_reserved(path):
                    return self._read_bounded("GET", path)
        except ValueError as error:
            raise MisaskedError(str(error)) from None
        raise MisaskedError(_ASK_HELP)

    def _changed_today(self, row: table.Row) -> tuple[datetime | None, Any]:
        """EasyFlor's clock, and the first object that changed today; None if none did."""
        today, form = datetime.now(UTC).date(), self._options.since_format
        try:
            return self._first_and_clock(_since_path(row, cursors.format_day(today, form)))
        except answers.BadRequestError:
            return self._first_and_clock(_since_path(row, cursors.format_day(today, cursors.other_form(form))))

    def _first(self, path: str) -> Any:
        return self._first_and_clock(path)[1]

    # HTTP.

    def _first_and_clock(self, path: str) -> tuple[datetime | None, Any]:
        """EasyFlor's clock (aware; None without a Date header), and the first object of an array, or None."""
        with self._reply(path) as reply:
            return reply.date, next(streaming.readable(self._records(reply)), None)

    def _read_bounded(self, method: str, path: str, **request: Any) -> Any:
        with self._reply(path, method, **request) as reply:
            return answers.decode_bounded(reply, limit=_MAX_SHOWN, keep_personal=self._options.keep_personal)

    def _records(self, reply: http.Streamed, glance: streaming.Glance | None = None) -> Iterator[Any]:
        return answers.records(reply, keep_personal=self._options.keep_personal, glance=glance)

    @contextmanager
    def _reply(self, path: str, method: str = "GET", **request: Any) -> Iterator[http.Streamed]:
        """A streamed reply of 200; any other status raises an error of `workers.errors`."""
        with self._http.stream(method, path, **request) as reply:
            if reply.status != answers.OK:
                failure = answers.ErrorReply.decode(reply.status, http.Peeked(reply).read(-1), redact=self._auth.redact)
                raise failure.to_error(self._options, _clock(reply.date))
            yield reply


class _Deduplicator:
    """Finds different objects with the same key within one reply, so that none is dropped silently.

    Remembers the states of the whole reply, because EasyFlor does not document any order.
    """

    def __init__(self, resource: Resource, seen: streaming.SeenKeys) -> None:
        self._resource = resource
        self._seen = seen
        self._read_key = objects.KeyReader(resource)

    def chunk(self, batch: Sequence[Any]) -> Chunk:
        """The batch by key. Of two different objects with a key, a point read decides; without one, the first stays."""
        keyed: list[tuple[str, Record, bytes]] = []
        unkeyed: list[tuple[str, Record]] = []
        records, broken = record_states.readable(batch, partial(objects.told_key, self._resource))
        for record in records:
            key = self._read_key(record_states.told(record))
            if key is None:
                unkeyed.append((_missing_key(self._resource), record))
            else:
                keyed.append((key, record, record_states.digest(record)))
        found: dict[str, tuple[Record, bytes]] = {}
        refs: list[ObjectRef] = []
        states = self._seen.remember_all({key: digest for key, _, digest in reversed(keyed)})
        for key, record, digest in keyed:
            earlier, _ = found.get(key, (None, b""))
            if key not in states:
                states[key], found[key] = digest, (record, digest)
            elif record_states.same(digest, record, states[key], earlier):
                pass
            elif self._resource.fetches(key):
                refs.append(ObjectRef(self._resource.name, key))
            else:
                unkeyed.append((_same_key(self._resource), record))
        remedy = _remedy(self._resource, list(map(record_states.decoded, records))) if unkeyed else ""
        lacking = (objects.without_key(record_states.decoded(each), reason, remedy) for reason, each in unkeyed)
        snapshots = tuple(record_states.snapshot(key, *each) for key, each in found.items())
        return Chunk(snapshots, refs=tuple(refs), unreadable=(*broken, *lacking))


def _is_reserved(path: str) -> bool:
    """Whether the path is a login, a logout, or a point read that needs a body."""
    return path.strip("/").lower() in {*_LOGIN_PATHS, table.SORTS.lower(), table.PRICES.lower()}


def _remedy(resource: Resource, records: Sequence[JsonObject]) -> str:
    """The setting that names another key. Of debtors it is in `own`: their addresses are documented, and fixed."""
    if resource.name != table.DEBTOR.name:
        return objects.keys_remedy(resource, records)
    guessed = objects.distinguishing_fields(records)
    field = guessed[0] if len(guessed) == 1 else "…"
    return f'set own.debtor = {{ path = "debtor", key = "{field}" }}, with the field that identifies a debtor'


def _missing_key(resource: Resource) -> str:
    return f"an object of {resource.name} without {' and '.join(resource.key)}"


def _same_key(resource: Resource) -> str:
    return f"different objects of {resource.name} with the same {' and '.join(resource.key)}"


def _since_path(row: table.Row, day: str) -> str:
    return str(row.since).replace(table.DATE, day)


def _clock(date: datetime | None) -> datetime:
    return date or datetime.now(UTC)


def _with_confirmation(row: table.Row, text: str) -> str:
    return text if row.confirmed else f"{text} (unconfirmed: the vendor does not document this resource)"


def _numbers(words: str) -> list[int | str]:
    return [_number(word) for word in words.split(",") if word]


def _number(word: str) -> int | str:
    return int(word) if re.fullmatch("0|[1-9][0-9]{0,17}", word) else word


def _at_most(ids: Sequence[int | str], most: int) -> list[int | str]:
    if not 0 < len(ids) <= most:
        raise ValueError(f"ask for one to {most} ids at once, not {len(ids)}")
    return list(ids)
