"""Values are the same after decoding, storing and reading them, whatever their size."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
import simplejson
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models import exact
from models.db import types

if TYPE_CHECKING:
    from models.db.database import Database

SETTINGS = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

decimals = st.decimals(allow_nan=False, allow_infinity=False, min_value=Decimal("-1e60"), max_value=Decimal("1e60"))
scalars = st.none() | st.booleans() | st.integers() | decimals | st.text()
values = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=12)

probe = sa.Table(
    "probe",
    sa.MetaData(),
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("number", types.ExactNumber),
    sa.Column("json", types.ExactJSON),
)


def respelled(value: Any) -> Any:
    """The same value with its keys in reverse order and trailing zeros."""
    if isinstance(value, dict):
        return {key: respelled(item) for key, item in reversed(value.items())}
    if isinstance(value, list):
        return [respelled(item) for item in value]
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        return value
    text = format(Decimal(value), "f")
    return Decimal(text + "000" if "." in text else text + ".00")


@given(values)
def test_equal_values_have_one_hash_however_they_are_spelled(value: Any) -> None:
    assert exact.fingerprint(value) == exact.fingerprint(respelled(value))
    assert exact.same(value, respelled(value))


@given(values, values)
def test_two_values_are_the_same_exactly_if_their_canonical_texts_are(one: Any, other: Any) -> None:
    assert exact.same(one, other) is (exact.canonical(one) == exact.canonical(other))


@pytest.mark.parametrize(("one", "other"), [(True, 1), (False, 0), ("1", 1), (None, ""), ([], {}), ([1], [1, None])])
def test_different_values_have_different_hashes(one: Any, other: Any) -> None:
    assert exact.fingerprint(one) != exact.fingerprint(other)
    assert not exact.same(one, other)


@given(values, values)
def test_two_values_have_the_same_digest_exactly_if_they_are_equal(one: Any, other: Any) -> None:
    one, other = exact.loads(exact.dumps(one)), exact.loads(exact.dumps(other))
    assert (exact.canonical(one) == exact.canonical(other)) == (
        exact.content_digest(one) == exact.content_digest(other)
    )
    assert exact.content_digest(one) == exact.content_digest(exact.loads(exact.dumps(one)))


def test_another_salt_is_another_hash() -> None:
    assert exact.fingerprint({"a": 1}, salt="x") != exact.fingerprint({"a": 1}, salt="y")


@SETTINGS
@given(
    number=st.one_of(
        decimals,
        st.integers(min_value=-(10**300), max_value=10**300).map(Decimal),
        st.decimals(allow_nan=False, allow_infinity=False, places=40, min_value=0, max_value=1),
        st.sampled_from([Decimal(2**63), Decimal(-(2**63)), Decimal("0.1"), Decimal("1e-400"), Decimal("1e400")]),
    )
)
def test_a_decimal_of_any_size_survives_column_and_json(database: Database, number: Decimal) -> None:
    probe.create(database.engine, checkfirst=True)
    with database.begin() as tx:
        tx.execute(sa.delete(probe))
        tx.execute(sa.insert(probe).values(id=1, number=number, json={"n": number}))
        row = tx.execute(sa.select(probe)).one()
    assert number == row.number
    assert number == row.json["n"]


def test_sqlite_keeps_a_price_as_a_number_that_sql_can_add(sqlite: Database) -> None:
    probe.create(sqlite.engine)
    with sqlite.begin() as tx:
        rows = [{"id": 1, "number": Decimal("680.10")}, {"id": 2, "number": Decimal("19.90")}]
        tx.execute(sa.insert(probe), rows)
        assert tx.exec_driver_sql("SELECT sum(number) FROM probe").scalar_one() == 700.0


@pytest.mark.parametrize("text", ["NaN", "Infinity", "[-Infinity]", "{", "", "[" * 100_000])
def test_what_is_not_json_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        exact.loads(text)


@given(values)
def test_both_decoders_give_the_same_values(value: Any) -> None:
    for ascii_only in (True, False):
        text = simplejson.dumps(value, use_decimal=True, ensure_ascii=ascii_only)
        decoded = exact.loads(text)
        assert exact.same(json.loads(text, parse_float=Decimal), decoded)
        assert (
            repr(decoded)
            == repr(exact.loads(text.encode()))
            == repr(exact.loads(b"\xef\xbb\xbf" + text.encode()))
            == repr(exact.normalised(json.loads(text, parse_float=Decimal)))
        )


@pytest.mark.parametrize(
    ("spellings", "normal"),
    [
        (["1.5", "1.50", "15e-1", "0.15E+1", "150.0e-2"], Decimal("1.5")),
        (["10", "10.0", "1e1", "1.00E+1", "100e-1"], 10),
        (["0", "-0", "0.0", "-0.00", "0e5", "-0.0e-7"], 0),
        (["0.000000001", "1e-9", "0.0010e-6"], Decimal("1E-9")),
        (["1e30", "1" + "0" * 30, "1" + "0" * 30 + ".0"], 10**30),
        (["0." + "1" * 999, "0." + "1" * 999 + "0"], Decimal("0." + "1" * 999)),
    ],
)
def test_however_a_number_is_spelled_it_is_decoded_into_one_form(spellings: list[str], normal: Any) -> None:
    for spelling in spellings:
        decoded = exact.loads(spelling)
        assert (type(normal), repr(normal)) == (type(decoded), repr(decoded))
        streamed = exact.normalised({"a": [Decimal(spelling)]})
        assert repr({"a": [normal]}) == repr(streamed)


@pytest.mark.parametrize(
    "absurd", ["1e999999999", "-1e-999999999", "1e5000", "1" * 1002 + ".5", "1e99999999999999999999", "7" * 5000]
)
def test_a_number_of_absurd_size_is_decoded_as_its_text_and_never_expanded(absurd: str) -> None:
    decoded = exact.loads(f'{{"a": {absurd}}}')["a"]
    assert isinstance(decoded, str)
    assert len(absurd) + 1 >= len(decoded)
    assert decoded == exact.storable(decoded)


def test_nesting_deeper_than_python_recurses_is_normalised() -> None:
    innermost: list[Any] = [Decimal("1.0")]
    deep: Any = innermost
    for _ in range(5000):
        deep = [deep]
    exact.normalised(deep)
    assert [1] == innermost


@pytest.mark.parametrize(
    "text", ['"\\ud800"', b"\xef\xbb\xbf[1]", '"a"'.encode("utf-16"), "7" * 3000, b'"\xed\xa0\x80"']
)
def test_what_only_the_standard_library_accepts_is_decoded(text: str | bytes) -> None:
    assert json.loads(text) == exact.loads(text)


def test_an_integer_longer_than_python_reads_is_kept_as_its_text() -> None:
    digits = "7" * 5000
    (number,) = exact.storable(exact.loads(f"[{digits}]"))
    assert Decimal(digits) == Decimal(number)
    assert isinstance(number, str)


@pytest.mark.parametrize("number", ["1e5000", "-1e-5000", "0." + "1" * 3000])
def test_a_number_of_absurd_size_is_kept_as_its_text(number: str) -> None:
    stored = exact.storable(Decimal(number))
    assert isinstance(stored, str)
    assert Decimal(number) == Decimal(stored)


def test_nul_and_lone_surrogates_are_stored_escaped() -> None:
    assert {"k\\u0000": ["a\\ud800b", "😀"]} == exact.storable({"k\0": ["a\ud800b", "😀"]})


def test_what_is_nested_absurdly_deep_is_kept_as_text() -> None:
    stored = exact.storable(exact.loads("[" * 400 + "1" + "]" * 400))
    while isinstance(stored, list):
        (stored,) = stored
    assert "[" * 300 + "1" + "]" * 300 == stored


@given(values)
def test_storing_twice_changes_nothing_more(value: Any) -> None:
    assert exact.same(exact.storable(value), exact.storable(exact.storable(value)))
