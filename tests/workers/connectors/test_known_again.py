"""Objects of a long reply that come again in the same bytes are known without being decoded, and keep their fates."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from models.db.tables import changes
from models.values import UndecodedSnapshot
from tests.mirroring import Mirror, mirrored
from tests.serving import served
from tests.workers.connectors.directo import conftest as directo
from workers.connectors import contract
from workers.connectors.directo import resources as directo_resources
from workers.connectors.easyflor import answers
from workers.connectors.easyflor import resources as easyflor_resources
from workers.connectors.easyflor.client import Client as EasyFlor
from workers.connectors.easyflor.options import Options as EasyFlorOptions
from workers.connectors.json_windows import WINDOW

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from starlette.requests import Request

    from models.db.database import Database
    from models.values import Chunk

_LOGIN = {"username": "u", "password": "p", "database": "d"}
_TOKEN = {"Token": "t", "Expiration": "2099-01-01T00:00:00Z"}


@dataclass
class _Vendor:
    """A vendor whose every list is `body`, and the connection's client of it."""

    client: Any
    resource: contract.Resource
    body: bytes = b"[]"

    def answers_with(self, records: Sequence[str]) -> list[Chunk]:
        """The chunks of a full sync of these records."""
        self.body = f"[{','.join(records)}]".encode()
        return list(self.client.list(self.resource, None))


@contextmanager
def _vendor(system: str) -> Iterator[_Vendor]:
    def answer(request: Request) -> Response:
        return (
            JSONResponse(_TOKEN) if request.method == "POST" else Response(vendor.body, media_type="application/json")
        )

    with served(Starlette(routes=[Route("/{path:path}", answer, methods=["GET", "POST"])])) as url:
        if system == "directo":
            client: Any = directo.client(url)
            vendor = _Vendor(client, directo_resources.catalogue(directo.options(url))["items"])
        else:
            options = EasyFlorOptions.model_validate(
                {"name": "flora", "system": "easyflor", "url": url, "resources": ["debtor"], **_LOGIN}
            )
            client = EasyFlor(options, contract.standalone())
            vendor = _Vendor(client, easyflor_resources.resources(options)[0])
        yield vendor
        client.close()


_FILLER = {
    system: [
        json.dumps({key: f"filler {number}", "ts": "2020-01-01 00:00:00", "text": "x" * 1000})
        for number in range(2 * WINDOW // 1000)
    ]
    for system, key in (("directo", "code"), ("easyflor", "Id"))
}
_RECORDS = {
    "the same twice": ['{"KEY":"1","a":1,TS}'] * 2,
    "the same in another spelling": ['{"KEY":"1","a":1.0,TS}', '{"a":1,"KEY":"1",TS}'],
    "a number and its text": ['{"KEY":3,TS}', '{"KEY":"3",TS}'],
    "a number in two spellings": ['{"KEY":3,"a":[1.50],TS}', '{"KEY":3.0,"a":[1.5],TS}'],
    "two states": ['{"KEY":"1","a":1,TS}', '{"KEY":"1","a":2,TS}'],
    "a later state": ['{"KEY":"1","a":1,TS}', '{"KEY":"1","a":2,"ts":"2021-01-01 00:00:00"}'],
    "an earlier state": ['{"KEY":"1","a":1,TS}', '{"KEY":"1","a":2,"ts":"2019-01-01 00:00:00"}'],
    "three states": [f'{{"KEY":"1","a":{n},"ts":"20{year}-01-01 00:00:00"}}' for n, year in enumerate((20, 22, 21))],
    "no key": ['{"a":1,TS}', '{"KEY":null,TS}', '{"KEY":"",TS}', '{"KEY":[1],TS}', '{"KEY":true,TS}'],
    "another case": ['{"key":"1",TS}', '{"KEY":"2",TS}', '{"key":"3","KEY":"4",TS}'],
    "a name twice": ['{"KEY":"1","KEY":"2",TS}'],
    "an escaped name": ['{"\\u004bEY":"1",TS}', '{"KEY":"\\u00f5",TS}'],
    "no object": ["7", '"text"', "null", "[]", "{}", '["KEY"]'],
    "no JSON": ['{"KEY":"1","a":None,TS}', '{"KEY":"2","a":"\ud83c",TS}'.encode("utf-8", "replace").decode()],
    "half a character": ['{"KEY":"1","a":"\\ud83c",TS}', '{"KEY":"\\ud83c",TS}'],
    "huge numbers": ['{"KEY":"1","a":1e999999999,TS}', '{"KEY":"2","a":' + "9" * 5000 + ",TS}", '{"KEY":1e400,TS}'],
    "exact numbers": [
        '{"KEY":"1","a":0.10000000000000000000000000000000000001,TS}',
        '{"KEY":12345678901234567890123,TS}',
    ],
    "deep": ['{"KEY":"1","a":' + "[" * 990 + "]" * 990 + ",TS}", '{"KEY":"2","a":' + "[" * 300 + "]" * 300 + ",TS}"],
    "an odd stamp": ['{"KEY":"1","ts":7}', '{"KEY":"2","ts":null}', '{"KEY":"3","TS":"2020-01-01"}', '{"KEY":"4"}'],
    "secrets": [
        '{"KEY":"1","Password":"a","x":{"DateOfBirth":"b","Gender":null,"passwordSalt":"c\\"d"},TS}',
        '{"KEY":"2","Pass\\u0077ord":"a",TS}',
        '{"KEY":"3","OldPassword":{"a":"b"},"text":"the password: \\"Password\\":\\"x\\"",TS}',
        '{"KEY":"4","\\"Gender":"kept","Genders":"kept",TS}',
    ],
}


def _fates(chunks: Sequence[Chunk]) -> dict[str, Any]:
    fillers = ("filler",)
    return {
        "objects": [
            (row.key, row.raw) for chunk in chunks for row in chunk.snapshots if not row.key.startswith(fillers)
        ],
        "refs": [ref.key for chunk in chunks for ref in chunk.refs],
        "unreadable": [(row.reason, row.raw.get("place") is None and row.raw) for c in chunks for row in c.unreadable],
    }


@pytest.mark.parametrize("system", ["directo", "easyflor"])
def test_records_have_the_same_fates_in_a_long_reply_as_in_a_short_one(system: str) -> None:
    key, ts = ("code" if system == "directo" else "Id"), '"ts":"2020-01-01 00:00:00"'
    filler = _FILLER[system]
    with _vendor(system) as vendor:
        for name, written in _RECORDS.items():
            records = [each.replace("KEY", key).replace("key", key.swapcase()).replace("TS", ts) for each in written]
            short = _fates(vendor.answers_with([*records, filler[0]]))
            long = vendor.answers_with([*filler[:-50], *records, *filler[-50:]])
            assert (name, short) == (name, _fates(long))
            assert any(isinstance(row, UndecodedSnapshot) for chunk in long for row in chunk.snapshots)


@pytest.mark.parametrize("system", ["directo", "easyflor"])
def test_two_states_far_apart_in_a_long_reply_are_told_apart(system: str) -> None:
    key, filler = ("code" if system == "directo" else "Id"), _FILLER[system] * 5
    numbered = [each.replace("filler ", f"filler {number} ") for number, each in enumerate(filler)]
    for second, expected in (('"a":1', []), ('"a":2', ["1"])):
        for behind in (numbered[-1:], ['{"a":None}'], []):  # a window, what is no JSON, and the end
            with _vendor(system) as vendor:
                records = [f'{{"{key}":"1",{value},"ts":"2020-01-01 00:00:00"}}' for value in ('"a":1', second)]
                chunks = vendor.answers_with([records[0], *numbered, records[1], *behind])
            assert len(chunks) > 2
            assert [{key: "1", "a": 1}] == [
                {name: value for name, value in row.raw.items() if name != "ts"}
                for chunk in chunks
                for row in chunk.snapshots
                if row.key == "1"
            ]
            found = [ref.key for chunk in chunks for ref in chunk.refs]
            unreadable = [row.raw[key] for chunk in chunks for row in chunk.unreadable if key in row.raw]
            assert expected == found + unreadable


def _sent_hashes(mirror: Mirror, table: str) -> dict[str, str | None]:
    with mirror.database.read() as tx:
        rows = tx.execute(sa.text(f'SELECT "_key", "_sent_hash" FROM {table}'))
        return {row[0]: row[1] for row in rows}


def _changes(mirror: Mirror) -> int:
    with mirror.database.read() as tx:
        return tx.execute(sa.select(sa.func.count()).select_from(changes)).scalar_one()


@pytest.mark.parametrize(("system", "resource"), [("directo", "items"), ("easyflor", "debtor")])
def test_a_mirror_of_long_replies_follows_every_edit(
    database: Database, tmp_path: Path, system: str, resource: str
) -> None:
    options = {"resources": [resource], "max_deletions": 1}
    with mirrored(database, tmp_path, **{system: {"objects": 6, "options": options}}) as mirror:
        books = mirror.sandboxes[system].books
        books.tables[resource] *= 0
        for number in range(700):
            added = books.new_item(number) if system == "directo" else books.new_debtor(back=number)
            added["Comment"] = "x" * 500
        mirror.work()
        assert ({}, 700) == (mirror.differences(), _changes(mirror))
        hashes = _sent_hashes(mirror, f"{system}_{resource}")
        assert sum(each is not None for each in hashes.values()) > 600
        mirror.catch_up()
        assert ({}, 700) == (mirror.differences(), _changes(mirror))
        if system == "directo":  # EasyFlor's sandbox orders the fields anew each time
            assert hashes == _sent_hashes(mirror, "directo_items")
        table = books.tables[resource]
        edited, gone = table[7], table[11]
        edited["Comment"] = "edited"
        table.remove(gone)
        mirror.catch_up()
        assert ({}, 702) == (mirror.differences(), _changes(mirror))
        table.append(gone)  # in the bytes that were received before
        mirror.catch_up()
        assert ({}, 703) == (mirror.differences(), _changes(mirror))


def test_a_password_alone_changes_no_hash_that_is_stored() -> None:
    with _vendor("easyflor") as vendor:
        digests = []
        for secret in ("0815", "4711"):
            contact = f'{{"Gender":"{secret}","Users":[{{"Password":"{secret}"}}],"Name":"n"}}'
            debtors = [f'{{"Id":{number},"Contacts":[{contact}]}}' for number in range(WINDOW // 60)]
            chunks = vendor.answers_with(debtors)
            sent = [row for chunk in chunks for row in chunk.snapshots if isinstance(row, UndecodedSnapshot)]
            assert all(secret.encode() not in row.encoded for row in sent)
            digests.append([(row.key, row.digest) for row in sent])
    assert len(digests[0]) > WINDOW // 120
    assert digests[0] == digests[1]


@pytest.mark.parametrize(
    "text",
    [
        '{"OldPassword":"x"}',
        '{"Password":1}',
        '{"PASSWORD":"x"}',
        '{"Password":["x"]}',
        '{"a":"the password"}',
        '{"Pass\\u0077ord":"x"}',
        '{"Pa\u017fsword":"x"}',
        '{"Pa\u00dfword":"x"}',
        '{"OLDPA\u1e9eWORD":"x"}',
        '{"Pa\\u00dfword":"x"}',
        '{"Pa\\u1E9EWord":"x"}',
        '{"\\u212aey":"x"}',
        '{"DATEOFBIRTH":"x"}',
    ],
)
def test_a_text_that_may_still_hold_a_secret_is_not_hashed(text: str) -> None:
    assert answers.without_secrets(text.encode(), keep_personal=False) is None


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        (
            '{"Password" : "a\\"}","passwordSalt":null,"Gender":"x","GenderCode":"y","Name":"Passwor"}',
            '{"Gender":"x","GenderCode":"y","Name":"Passwor"}',
        ),
        ('{"Password":"a","passwordSalt":"b"}', "{}"),
        ('{"Id":1,"Password":"a" , "passwordSalt":"b"\n}', '{"Id":1}'),
        ('{"Password":"a","Id":1,"passwordSalt":null}', '{"Id":1}'),
        ('[{"Password":"a"},{"Id":1}]', '[{},{"Id":1}]'),
    ],
)
def test_secrets_are_taken_out_of_a_text_and_nothing_else(text: str, kept: str) -> None:
    assert kept.encode() == answers.without_secrets(text.encode(), keep_personal=True)


def test_what_may_be_personal_is_not_taken_out_of_a_text() -> None:
    assert answers.without_secrets(b'{"Gender":"x","GenderCode":"y"}', keep_personal=False) is None


_USUAL_NAMES = ["Id", "Password", "passwordSalt", "Gender", "DateOfBirth", "nationality", "Name", "gender"]
_ODD_NAMES = ["Pa\u00dfword", "OLDPA\u1e9eWORD", "Pa\u017fsword", "PASSWORD", "Stra\u00dfe"]
_NAMES = st.sampled_from(_USUAL_NAMES) | st.sampled_from(_ODD_NAMES)
_TEXTS = st.sampled_from(["", "a", '","Gender":"x"', "\\", "Password", 'x"}', "\u20ac", '{"Password":"x"}'])
_OBJECTS = st.recursive(
    st.none() | st.integers() | _TEXTS,
    lambda each: st.lists(each, max_size=3) | st.dictionaries(_NAMES, each, max_size=5),
    max_leaves=12,
)


@given(
    value=_OBJECTS,
    keep_personal=st.booleans(),
    separators=st.sampled_from([(",", ":"), (" , ", " : "), (",\n", ":\t")]),
    escaped=st.booleans(),
)
def test_a_text_without_secrets_is_the_object_without_them(
    *, value: Any, keep_personal: bool, separators: tuple[str, str], escaped: bool
) -> None:
    text = json.dumps([value], separators=separators, ensure_ascii=escaped).encode()
    kept = answers.without_secrets(text, keep_personal=keep_personal)
    if kept is not None:
        assert answers.remove_secrets([value], keep_personal=keep_personal) == json.loads(kept)
