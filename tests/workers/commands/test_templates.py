"""Commands from the rows of a CSV file."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from workers.commands import templates
from workers.commands.templates import TemplateError

TEMPLATE: dict[str, Any] = {
    "header": {"person": "${person}", "remark": "from ${shop}: ${note}", "rate": "${rate:number}"},
    "goods": [{"good": "${good}", "active": "${active:boolean}", "fixed": 1}],
}


def filled(content: str, template: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    return [row.arguments for row in templates.rows(content, template or TEMPLATE, prefix="p")]


def test_each_row_fills_the_template() -> None:
    content = 'person,shop,note,rate,good,active\n1,"a, b",x,12.50,g,yes\n2,c,,1,h,0\n'
    assert [
        {
            "header": {"person": "1", "remark": "from a, b: x", "rate": Decimal("12.5")},
            "goods": [{"good": "g", "active": True, "fixed": 1}],
        },
        {
            "header": {"person": "2", "remark": "from c: ", "rate": 1},
            "goods": [{"good": "h", "active": False, "fixed": 1}],
        },
    ] == filled(content)


def test_an_empty_cell_leaves_its_field_out() -> None:
    assert [{"a": "x"}] == filled("a,b\nx,\n", {"a": "${a}", "b": "${b:number}"})


@pytest.mark.parametrize("content", ["\ufeffa,b\r\n1,2\r\n", "a;b\n1;2\n", "a , b\n1,2\n\n , \n", "a;b;;\n1;2;;\n"])
def test_spreadsheets_write_csv_in_many_ways(content: str) -> None:
    assert [{"a": "1", "b": "2"}] == filled(content, {"a": "${a}", "b": "${b}"})


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("a\n1\n", "has no column b"),
        ("", "has no column a, b; it has none"),
        ("a,b,a\n1,2,3\n", "the column a twice"),
        ("a,b\n1\n", "row 2 has 1 cells, the header has 2"),
        ("a,b\n1,2\n1,x\n", "row 3, column b: 'x' is not a number"),
        ("a,b\n1,true\n", "'true' is not a number"),
        ("a,b\n1,1e5\n", "'1e5' is not a number"),
        ('a,b\n"1" x,2\n', "row 2: .* a quotation mark"),
        ('a,b\n"1,2\n3,4\n', "row 2: .* a quotation mark"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_with_its_place(content: str, words: str) -> None:
    with pytest.raises(TemplateError, match=words):
        filled(content, {"a": "${a}", "b": "${b:number}"})


def test_neither_true_nor_false() -> None:
    with pytest.raises(TemplateError, match="neither true nor false"):
        filled("a\nperhaps\n", {"a": "${a:boolean}"})


def test_the_same_file_has_the_same_keys_and_equal_rows_have_others() -> None:
    template = {"a": "${a}"}
    first = [row.idempotency_key for row in templates.rows("a\n1\n1\n2\n", template, prefix="p")]
    assert 3 == len(set(first))
    assert first == [row.idempotency_key for row in templates.rows("b,a\nx,1\ny,1\nz,2\n", template, prefix="p")]
    assert not set(first) & {row.idempotency_key for row in templates.rows("a\n1\n1\n2\n", template, prefix="q")}
