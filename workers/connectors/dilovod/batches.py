"""Reads hundreds of objects by a few requests, and believes them only as far as `getObject` shows the same.

A batch is one `request` for headers, one or more for the rows of each table part, and one for the versions again: an
object that was saved meanwhile is left to a point read, so none is half old and half new. No answer is read on in a
second page, because Dilovod promises no order: the rows of fewer owners are asked for instead.
"""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from models.values import Batch, Snapshot
from workers.connectors import streaming
from workers.connectors.dilovod import answers, cursors, queries
from workers.connectors.dilovod.batch_plan import (
    ENOUGH,
    OWNER,
    DifferenceError,
    Fields,
    Part,
    Plan,
    TooManyRowsError,
    difference,
)
from workers.connectors.dilovod.queries import Filter, Limit, Operator
from workers.connectors.dilovod.resources import PAGE
from workers.errors import SetAside, TryLater

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from models.values import JsonObject, Tombstone

SAMPLE = 10
"""Objects that one step of a proof reads both ways: it holds the gate for no longer than a page of a listing may."""

_CHECKED = 2
"""Objects of each batch that are read both ways: the last one, which a list that was cut lacks, and another."""

_TOO_FEW = 12
"""Objects that a batch reads by no fewer requests than there are of them."""

_MOST_TRIES = 16
"""Requests for the rows of one part in one batch, if many more came than objects had before."""

_SHORTEST_LIST = 50
"""Ids: public clients send lists of so many, so a shorter one is not refused for its length."""

_MANY_MISSING = 10
"""One of so many objects may be gone; where more are missing, the list may have been cut."""

_VERSIONS = {"id": "id", "version": "version", "delMark": "delMark"}


@dataclass(frozen=True, slots=True)
class Reads:
    """What a batch needs of the client.

    `fetch`: one object by `getObject`. `rows`: the rows of a `request`, of which one that cannot be read is a
    `streaming.UnreadableRecord`. `declared`: `metadata.summary` of the resource, requested anew.
    """

    fetch: Callable[[str], Snapshot | Tombstone]
    rows: Callable[[JsonObject], Sequence[Any]]
    declared: Callable[[], JsonObject]


def read(reads: Reads, name: str, keys: Sequence[str], plan: str | None, declared: JsonObject) -> Batch:
    """Read some of the objects, or prove the plan by a few of them. `declared`: `metadata.summary` of the resource."""
    known = Plan.decode(plan, declared["fingerprint"])
    batch = _Batch(reads, name, known, declared)
    refusal, distrusted = None, False
    try:
        batch.read(keys)
        batch.snapshots |= batch.point
        learned: str | None = batch.plan.encode()
    except DifferenceError as found:
        batch.snapshots, learned, refusal = batch.point, None, str(found)
        distrusted = known.is_proved and not isinstance(found, TooManyRowsError)
        # Vendors change all objects at once, too: then only the plan is void.
        if distrusted and reads.declared()["fingerprint"] != known.metadata:
            refusal = None
    return Batch(
        snapshots=list(batch.snapshots.values()),
        alone={key: why for key, why in batch.alone.items() if key not in batch.snapshots},
        plan=learned,
        refusal=refusal,
        distrusted=distrusted,
    )


class _RefusedError(Exception):
    """Dilovod's words for why it does not answer a `request`."""


@dataclass
class _Pages:
    """What `request` shows. `odd`: objects with rows or values in places that no `getObject` answer had yet."""

    assembled: dict[str, JsonObject]
    odd: list[str]


class _Batch:
    """One batch while it is read.

    `point`: objects that were read by `getObject`. `alone`: keys that have to be, each with the reason. `snapshots`:
    objects that were read by `request`.
    """

    def __init__(self, reads: Reads, name: str, plan: Plan, declared: JsonObject) -> None:
        self._reads, self._name, self._declared = reads, name, declared
        self.plan = plan
        self.point: dict[str, Snapshot] = {}
        self.alone: dict[str, str] = {}
        self.snapshots: dict[str, Snapshot] = {}
        self._later: set[str] = set()

    def read(self, keys: Sequence[str]) -> None:
        """Read keys by `request`, and some of them both ways. Raises `DifferenceError`."""
        if not self.plan.is_proved:
            self._prove(_some(keys, SAMPLE))
            return
        if self.plan.objects <= _TOO_FEW:
            raise TooManyRowsError("its objects have too many rows for batches")
        pages = self._pages(keys[: self.plan.objects])
        known = list(pages.assembled)
        self._fetch([*_some(known[:-1], _CHECKED - 1), *known[-1:]])
        if self._compared(pages):
            self.snapshots = {key: _snapshot(key, raw) for key, raw in pages.assembled.items() if key not in self.alone}
        if pages.odd:
            self._prove(pages.odd[:SAMPLE])

    def _prove(self, keys: Sequence[str]) -> None:
        """Learn from these objects, and compare them."""
        self._fetch(keys)
        shown = [key for key in keys if key in self.point]
        for key in shown:
            self.plan = self.plan.learned(self.point[key].raw, self._declared)
        if shown:
            compared = self._compared(self._pages(shown, learning=True))
            self.plan = replace(self.plan, proved=min(ENOUGH, self.plan.proved + compared))

    def _compared(self, pages: _Pages) -> int:
        """How many objects were read both ways and are equal. Raises `DifferenceError` for one that is not."""
        equal = 0
        for key in [key for key in self.point if key in pages.assembled]:
            if difference(self.point[key].raw, pages.assembled[key]) is None:
                equal += 1
                continue
            # It may have been saved between the two, or an object that it links to renamed.
            del self.point[key]
            self._fetch([key])
            again = self._pages([key]).assembled.get(key)
            if again is None or key not in self.point or self.point[key].listed != cursors.token(again["header"]):
                continue
            if (where := difference(self.point[key].raw, again)) is not None:
                raise DifferenceError(f"request shows another {where}")
            equal += 1
        return equal

    def _fetch(self, keys: Sequence[str]) -> None:
        """Read objects by `getObject`. One that cannot be read, or is deleted, is left to a point read of its own."""
        for key in keys:
            try:
                found = self._reads.fetch(key)
            except (SetAside, TryLater) as failure:
                if failure.whole_resource if isinstance(failure, SetAside) else failure.closes_gate:
                    raise
                self.alone[key] = str(failure)
                continue
            if isinstance(found, Snapshot):
                self.point[key] = found
            else:
                self.alone[key] = "it is deleted"

    # What `request` shows.

    def _pages(self, keys: Sequence[str], *, learning: bool = False) -> _Pages:
        """The objects as `request` shows them. `learning`: the plan has just learned from these objects, so a field
        that `getObject` has not shown is none of its fields.
        """
        headers = self._headers(keys)
        odd = self._odd_headers(headers, learning=learning)
        wanted = [key for key in headers if key not in odd]
        rows = {name: self._rows_of(name, wanted) for name in self.plan.parts}
        for name, found in rows.items():
            odd |= self._odd_owners(name, {key: found.get(key, []) for key in wanted}, learning=learning)
        self._leave_changed(headers)
        return _Pages(
            {
                key: self.plan.assembled(headers[key], {name: found.get(key, []) for name, found in rows.items()})
                for key in wanted
                if key not in odd and key not in self.alone and key not in self._later
            },
            [key for key in headers if key in odd and key not in self.alone and key not in self._later],
        )

    def _odd_headers(self, headers: Mapping[str, JsonObject], *, learning: bool) -> set[str]:
        """The objects with a value in a field that `getObject` has not shown."""
        header = self.plan.header
        odd = {key: names for key, row in headers.items() if (names := header.odd(row))}
        if learning:
            self.plan = replace(self.plan, header=header.without(set().union(*odd.values())))
        return set() if learning else set(odd)

    def _odd_owners(self, name: str, found: Mapping[str, Sequence[JsonObject]], *, learning: bool) -> set[str]:
        """Likewise the objects with rows, or without any, while `getObject` has shown none such; and by their rows."""
        part = self.plan.parts[name]
        odd = {owner for owner, rows in found.items() if (part.rows if rows else part.empty) is None}
        if part.rows is None:
            return odd
        by_field = {owner: part.rows.odd(row) for owner, rows in found.items() for row in rows if part.rows.odd(row)}
        if learning:
            self._keep_part(name, replace(part, rows=part.rows.without(set().union(*by_field.values()))))
        return odd if learning else odd | by_field.keys()

    def _keep_part(self, name: str, part: Part) -> None:
        self.plan = replace(self.plan, parts=self.plan.parts | {name: part})

    def _headers(self, keys: Sequence[str]) -> dict[str, JsonObject]:
        """Key -> header, of those objects that are not marked as deleted and have a version."""
        keys, found = self._listed(keys)
        missing = [key for key in keys if key not in found]
        may_be_cut = len(keys) > _SHORTEST_LIST and len(missing) * _MANY_MISSING > len(keys)
        if may_be_cut and self._listed(missing[:_SHORTEST_LIST])[1]:  # they exist: the list was cut
            self.plan = replace(self.plan, size=max(_SHORTEST_LIST, len(found)))
            missing = []
        self.alone |= dict.fromkeys(missing, "request does not show it")
        headers = {}
        for key, rows in found.items():
            if len(rows) > 1:
                self.alone[key] = "request shows it twice"
            elif cursors.token(rows[0]) is None or answers.is_marked(rows[0].get("delMark")):
                self.alone[key] = "it is deleted or has no version"
            else:
                headers[key] = rows[0]
        return headers

    def _listed(self, keys: Sequence[str]) -> tuple[Sequence[str], dict[str, list[JsonObject]]]:
        """The keys that were asked for, and key -> rows. Halves the list as long as Dilovod refuses it."""
        header = self.plan.header
        try:
            rows = self._request(self._name, header.paths, "id", keys, multilang=header.multilang)
        except _RefusedError as refused:
            if len(keys) > _SHORTEST_LIST:
                self.plan = replace(self.plan, size=max(_SHORTEST_LIST, len(keys) // 2))
            elif header.unseen:
                self.plan = replace(self.plan, header=header.without(header.unseen))
            else:
                raise DifferenceError(f"request refuses: {refused}") from None
            return self._listed(keys[: self.plan.size])
        return keys, _by_key(rows, "id", keys)

    def _rows_of(self, name: str, owners: Sequence[str]) -> dict[str, list[JsonObject]]:
        """Owner -> its rows of a table part.

        Owners whose rows cannot be told for sure are left to point reads, and those for whom the batch would last too
        long to a later one.
        """
        found: dict[str, list[JsonObject]] = {}
        left, tries = list(owners), 0
        while left and tries < _MOST_TRIES:
            tries += 1
            some = left[: self.plan.parts[name].owners]
            rows = self._part_rows(name, some)
            if rows is None:
                self._keep_part(name, replace(self.plan.parts[name], owners=max(1, len(some) // 2)))
                continue
            left = left[len(some) :]
            broken = [row for row in rows if isinstance(row, streaming.UnreadableRecord)]
            told = {answers.link_id(row.told.get(OWNER)) for row in broken}
            self.alone |= dict.fromkeys(told if told <= {*some} else some, "one of its rows cannot be read")
            found |= _by_key(rows, OWNER, some)
        self._later.update(left)
        for owner, rows in found.items():
            if len({str(row.get("id")) for row in rows}) < len(rows):
                self.alone[owner] = f"request shows a row of {name} twice"
        if (told_of := len(owners) - len(left)) >= SAMPLE:  # fewer say little of the others
            self._keep_part(name, self.plan.parts[name].holding(told_of, sum(map(len, found.values()))))
        return found

    def _part_rows(self, name: str, owners: Sequence[str]) -> Sequence[Any] | None:
        """The rows of these owners; None if they have to be asked for by fewer."""
        part = self.plan.parts[name]
        fields = part.rows or Fields()
        paths = {**fields.paths, "owner": OWNER}
        try:
            rows = self._request(f"{self._name}.{name}", paths, OWNER, owners, multilang=fields.multilang)
        except _RefusedError as refused:
            if len(owners) > _SHORTEST_LIST:
                return None
            if not fields.unseen:
                raise DifferenceError(f"request refuses: {refused}") from None
            self._keep_part(name, replace(part, rows=fields.without(fields.unseen)))
            return self._part_rows(name, owners)
        if len(rows) < PAGE:
            return rows
        if len(owners) > 1:
            return None
        self.alone[owners[0]] = f"its rows of {name} fill an answer"
        return []

    def _leave_changed(self, headers: Mapping[str, JsonObject]) -> None:
        """Leave those alone that were saved since their header was read. Without parts a header is all there is."""
        if not self.plan.parts or not headers:
            return
        try:
            rows = self._request(self._name, _VERSIONS, "id", list(headers), multilang=False, links=False)
        except _RefusedError as refused:
            raise DifferenceError(f"request refuses: {refused}") from None
        now = _by_key(rows, "id", list(headers))
        for key, header in headers.items():
            if [cursors.token(row) for row in now.get(key, ())] != [cursors.token(header)]:
                self.alone[key] = "it was saved while it was read"

    def _request(
        self,
        source: str,
        paths: Mapping[str, str],
        alias: str,
        ids: Sequence[str],
        *,
        multilang: bool,
        links: bool = True,
    ) -> Sequence[Any]:
        params = queries.request_params(
            source,
            paths,
            filters=[Filter(alias, Operator.IN_LIST, list(ids))],
            limit=Limit(0, PAGE),
            multilang=multilang,
            assemble_links=links,
        )
        try:
            return self._reads.rows(params)
        except (SetAside, answers.UnknownError) as refused:
            raise _RefusedError(str(refused)) from None


def _by_key(rows: Sequence[Any], alias: str, wanted: Sequence[str]) -> dict[str, list[JsonObject]]:
    """The readable rows by the id at `alias`, of the keys that were asked for."""
    found: dict[str, list[JsonObject]] = defaultdict(list)
    for row in rows:
        if not isinstance(row, streaming.UnreadableRecord):
            found[answers.link_id(row.get(alias))].append(row)
    return {key: found[key] for key in wanted if key in found}


def _some(keys: Sequence[str], count: int) -> list[str]:
    return random.sample(list(keys), min(count, len(keys)))


def _snapshot(key: str, raw: JsonObject) -> Snapshot:
    return Snapshot(key, raw, listed=cursors.token(raw["header"]))
