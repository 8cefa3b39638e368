"""Redaction removes what a rule names, however deep it is and however it is written."""

from __future__ import annotations

import base64
import html
import json
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import exact, redaction

if TYPE_CHECKING:
    from collections.abc import Callable

OBJECT: dict[str, Any] = {
    "name": "A",
    "Password": "p",
    "debtor": {"id": 1, "password": "p", "contacts": [{"password": "p", "mail": "m"}, [{"password": "p"}]]},
}


@pytest.mark.parametrize(
    ("kept", "omit"),
    [
        (OBJECT, ()),
        ({**OBJECT, "debtor": {"id": 1}}, ("debtor.password", "debtor.contacts")),
        ({"name": "A", "debtor": OBJECT["debtor"]}, ("PASSWORD",)),
        ({"name": "A", "debtor": {"id": 1, "contacts": [{"mail": "m"}, [{}]]}}, ("**.password",)),
        ({**OBJECT, "debtor": {"id": 1, "contacts": OBJECT["debtor"]["contacts"]}}, ("*.password",)),
        (
            {**OBJECT, "debtor": {"id": 1, "password": "p", "contacts": [{"mail": "m"}, [{}]]}},
            ("debtor.contacts.password",),
        ),
        ({**OBJECT, "debtor": {}}, ("debtor.**",)),
        ({**OBJECT, "debtor": {}}, ("debtor.*",)),
        (
            {**OBJECT, "debtor": {**OBJECT["debtor"], "contacts": [{"password": "p"}, [{"password": "p"}]]}},
            ("**.contacts.*l", "debtor.**.mail"),
        ),
    ],
)
def test_rules_remove_what_they_name(kept: dict[str, Any], omit: tuple[str, ...]) -> None:
    assert kept == redaction.redact(OBJECT, omit)


def test_the_given_object_is_left_as_it_is() -> None:
    before = exact.canonical(OBJECT)
    redaction.redact(OBJECT, ("**.password", "name"))
    assert before == exact.canonical(OBJECT)


def test_a_secret_is_found_below_any_nesting() -> None:
    deep: Any = {"secret": "s"}
    for _ in range(50_000):
        deep = {"x": [deep]}
    found: Any = redaction.redact(deep, ("**.secret",))
    while found:
        (found,) = found["x"]
    assert found == {}


def test_a_secret_is_found_after_tens_of_thousands_of_other_names() -> None:
    by_id: dict[str, Any] = {str(number): {"name": "A"} for number in range(30_000)}
    assert by_id == redaction.redact(by_id, ("**.secret",))
    assert {**by_id, "x": {}} == redaction.redact({**by_id, "x": {"Secret": "s"}}, ("**.secret",))
    assert {"7": {}} == redaction.redact({"7": {"SECRET": "s"}}, ("**.secret",))


keys = st.sampled_from(["a", "b", "secret", "SECRET"])
objects = st.recursive(
    st.dictionaries(keys, st.integers()), lambda inner: st.dictionaries(keys, inner | st.lists(inner)), max_leaves=15
)


@given(objects)
def test_a_rule_for_any_depth_leaves_no_trace(value: dict[str, Any]) -> None:
    assert "secret" not in exact.canonical(redaction.redact(value, ("**.secret",))).lower()


SECRETS = ["a-long-enough-secret", 'with "quotes" & spaces/+ä', "short1"]


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize(
    "write",
    [
        str,
        lambda secret: quote(secret, safe=""),
        quote,
        quote_plus,
        json.dumps,
        lambda secret: json.dumps(secret, ensure_ascii=False).replace("/", "\\/"),
        html.escape,
        lambda secret: base64.b64encode(secret.encode()).decode(),
        lambda secret: base64.b64encode(f"user:{secret}".encode()).decode(),
        lambda secret: base64.urlsafe_b64encode(f"a:{secret}:b".encode()).decode(),
    ],
)
def test_a_secret_is_masked_however_it_is_written_and_wherever_it_is_cut(
    secret: str, write: Callable[[str], str]
) -> None:
    mask, written = redaction.Mask(SECRETS), write(secret)
    assert "it was *** here" == mask(f"it was {secret} here")
    for start, end in ((0, len(written)), (0, -3), (3, len(written)), (2, -2)):
        piece = written[start:end]
        left = mask(f"<{piece}>")
        shown = max((length for length in range(len(piece) + 1) if piece[:length] in left), default=0)
        assert shown <= max(8, len(written) // 2)
        assert len(piece) < 6 or "***" in left


def test_a_text_without_a_secret_is_unchanged() -> None:
    assert "nothing to see, not even a-long" == redaction.Mask(SECRETS)("nothing to see, not even a-long")
    assert "" == redaction.Mask([])("")
