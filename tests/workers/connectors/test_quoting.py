"""What an error may quote of an answer: the vendor's own words, never a customer's data."""

from __future__ import annotations

import pytest

from workers.connectors.quoting import excerpt, one_line

JANE = "Jane Doe"


@pytest.mark.parametrize(
    ("body", "quoted"),
    [
        ("", ""),
        (" \n", ""),
        ('{"error":{"code":"X","message":"not\\n enabled"},"customer":{"name":"Jane Doe"}}', "X: not enabled"),
        ('{"error":"denied","message":"Jane Doe","name":"Jane Doe"}', "denied"),
        ('{"errors":["one","two",{"name":"Jane Doe"}]}', "one; two"),
        ('{"errorCode":900101,"errorMessage":"Wrong","errorData":"Jane Doe"}', "900101: Wrong"),
        ('{"message":"no rights","status":403}', "no rights"),
        ('{"message":"Jane Doe","id":7}', "29 bytes of what begins like JSON"),
        ('{"error":"half of Jane Doe', "26 bytes of what begins like JSON"),
        ('[{"error":"Jane Doe"}]', "22 bytes of what begins like JSON"),
        ('"Jane Doe"', "10 bytes of what begins like JSON"),
        ("Jane Doe;Main Street", "20 bytes of text"),
        ("<html><head><title>403 &amp; away</title></head><p>Jane Doe</p></html>", "403 & away"),
        ("<html><p>Jane Doe</p></html>", "28 bytes of HTML or XML"),
        ('<items><item name="Jane Doe"/></items>', "38 bytes of HTML or XML"),
    ],
)
def test_the_vendors_own_words_are_quoted_and_never_data(body: str, quoted: str) -> None:
    assert quoted == excerpt(body.encode())
    if body != f'"{JANE}"':  # under an error's status a lone text is the vendor's explanation
        assert JANE not in excerpt(body.encode(), is_error=True)


@pytest.mark.parametrize(
    ("body", "quoted"),
    [
        ("Parameter id must be numeric", "Parameter id must be numeric"),
        ("wrong: {name: Jane Doe}", "wrong:"),
        ('"Parameter id must be numeric"', "Parameter id must be numeric"),
        ("x" * 5000, "x" * 200),
    ],
)
def test_a_plain_text_is_quoted_only_where_the_status_says_that_it_explains_an_error(body: str, quoted: str) -> None:
    assert quoted == excerpt(body.encode(), is_error=True)
    assert "bytes of" in excerpt(body.encode())


def test_secrets_are_removed_before_words_are_cut() -> None:
    words = "x" * 195 + "very-secret-key"
    assert "x" * 195 + "***" == one_line(words, redact=lambda text: text.replace("very-secret-key", "***"))
    assert "very" not in excerpt(
        words.encode(), redact=lambda text: text.replace("very-secret-key", "***"), is_error=True
    )
