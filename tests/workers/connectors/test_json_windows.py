"""A list that is cut by windows has the same records as one that is cut record by record, whatever is wrong with it."""

from __future__ import annotations

import json
from io import BytesIO
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models import exact
from workers.connectors import objects, streaming
from workers.connectors.json_cutter import BrokenReplyError, Cutter
from workers.connectors.json_windows import Window
from workers.errors import VendorError

if TYPE_CHECKING:
    from collections.abc import Sequence

_TRICKY = ['},{"a":', '"},{"', "\\", '\\"', "}]", "[{", "õ", "\u2028", "😀", "\ud83c", "\0", "\t", "x" * 40, "},", "é}"]
_NAMES = st.sampled_from(["code", "Code", "CODE", "ts", "a", "rows", "õ", '"', "code "])
_SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(10**20, 10**25),
    st.floats(allow_nan=False),
    st.text(max_size=8),
)
_VALUES = st.recursive(
    _SCALARS | st.lists(st.sampled_from(_TRICKY), max_size=4).map("".join),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_NAMES, inner, max_size=4),
    max_leaves=12,
)
_LISTS = st.lists(st.dictionaries(_NAMES, _VALUES, max_size=5) | _VALUES, max_size=12)
_SEPARATORS = st.sampled_from([(",", ":"), (", ", ": "), (" ,\r\n\t", " : ")])


@st.composite
def _bodies(draw: st.DrawFn) -> bytes:
    text = json.dumps(draw(_LISTS), ensure_ascii=draw(st.booleans()), separators=draw(_SEPARATORS))
    return text.encode("utf-8", "surrogatepass")


@st.composite
def _damaged(draw: st.DrawFn) -> bytes:
    body = draw(_bodies())
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(body)))
        end = draw(st.integers(start, min(start + 6, len(body))))
        put = draw(
            st.sampled_from([b"", b",", b"}", b"{", b'"', b"]", b"[", b"\\", b"\xf5", b"NaN", b"None", b"},{", b" "])
        )
        body = body[:start] + put + body[end:]
    return body


def _parts(body: bytes, window: int) -> tuple[list[Any], str]:
    """The records, and the error at the end."""
    found: list[Any] = []
    try:
        for part in Cutter(BytesIO(body), window=window):
            found += part.items if isinstance(part, Window) else [part]
    except (BrokenReplyError, VendorError) as error:
        return found, f"{type(error).__name__}: {error}"
    return found, ""


def _glanced(body: bytes, names: Sequence[str]) -> list[Any]:
    """The records of a list, in which most are not decoded although it is short."""
    return list(streaming.items(BytesIO(body), streaming.Glance(names), window=20))


@settings(max_examples=400)
@given(_bodies() | _damaged(), st.integers(2, 300))
def test_windows_change_no_record_and_no_error(body: bytes, window: int) -> None:
    assert _parts(body, 0) == _parts(body, window)


@settings(max_examples=200)
@given(_bodies(), st.sampled_from([("code",), ("Code", "ts")]))
def test_what_is_told_of_a_record_is_what_decoding_it_shows(body: bytes, names: tuple[str, ...]) -> None:
    plain = list(streaming.items(BytesIO(body)))
    glanced = _glanced(body, names)
    for whole, record in zip(plain, glanced, strict=True):
        if not isinstance(record, streaming.SentRecord):
            assert whole == record
            continue
        assert whole == record.decoded()
        assert [objects.field(whole, name) for name in names] == [objects.field(record.told, name) for name in names]


def _records(count: int, **fields: Any) -> list[dict[str, Any]]:
    return [{"code": str(number), "rows": [{"code": "x"}, {"code": "},{"}], **fields} for number in range(count)]


@pytest.mark.parametrize("indent", [None, 1])
def test_most_records_of_a_list_are_cut_by_windows_although_lists_are_nested_in_them(indent: int | None) -> None:
    body = json.dumps(_records(20_000), indent=indent).encode()
    found = list(streaming.items(BytesIO(body), streaming.Glance(["code"])))
    assert [str(number) for number in range(20_000)] == [
        each.told["code"] if isinstance(each, streaming.SentRecord) else each["code"] for each in found
    ]
    assert sum(isinstance(each, streaming.SentRecord) for each in found) >= 19_999


def test_one_bad_record_slows_only_its_own_window() -> None:
    good = [json.dumps(each) for each in _records(40_000)]
    bad = ['{"code":"bad","a":None}', '{"code":"lone","a":"\\ud83c"}']
    body = f"[{','.join([*good[:20_000], *bad, *good[20_000:]])}]".encode()
    found = list(streaming.items(BytesIO(body), streaming.Glance(["code"])))
    (unreadable,) = [each for each in found if isinstance(each, streaming.UnreadableRecord)]
    assert (20_001, "the record is no JSON", {"code": "bad"}) == (unreadable.place, unreadable.reason, unreadable.told)
    assert {"code": "lone", "a": "\ud83c"} == found[20_001]
    decoded = sum(isinstance(each, dict) for each in found)
    assert 0 < decoded < 20_000


def test_a_field_that_is_spelled_in_two_ways_is_read_from_the_whole_record() -> None:
    body = b'[{"id":1},{"id":2,"Id":3},{"ID":4,"id":5},{"id":6},{"Id":7},{"id":8}]'
    found = _glanced(body, ["Id"])
    assert [{"id": 1}, {"id": 6}, {"id": 8}] == [each.told for each in found if isinstance(each, streaming.SentRecord)]
    assert [{"id": 2, "Id": 3}, {"ID": 4, "id": 5}, {"Id": 7}] == [
        each for each in found if not isinstance(each, streaming.SentRecord)
    ]


def test_a_deeply_nested_record_is_decoded_at_once() -> None:
    deep = '{"code":"1","a":' + "[" * 450 + "]" * 450 + "}"
    first, second, _ = _glanced(f'[{{"code":"0"}},{deep},{{"code":"2"}}]'.encode(), ["code"])
    assert isinstance(first, streaming.SentRecord)
    assert exact.loads(deep) == second


def test_a_record_of_millions_of_brackets_keeps_its_place() -> None:
    body = b'[{"a":"x"},{"a":[' + b"[]," * 4_000_000 + b"0]},1]"
    first, large, last = streaming.items(BytesIO(body))
    assert ({"a": "x"}, 1) == (first, last)
    assert "the record has more than 1000000 values" == large.reason
