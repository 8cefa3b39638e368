"""Every field gets a column name of its own that every database accepts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.mirror import naming


@pytest.mark.parametrize(
    ("folded", "spelled"),
    [
        ("kohalik", "KOHALIK"),
        ("pays_vat", "PaysVAT"),
        ("sale_order", "saleOrder"),
        ("good__pr", "good__pr"),
        ("vat_tax__pr", "vatTax__pr"),
        ("address1", "address1"),
        ("delivery_remark_for_del", "deliveryRemark_forDel"),
        ("id", "_id"),
        ("key", "__key"),
        ("firm", "firm "),
        ("vat", "VAT %"),
        ("назва", "Назва"),
        ("field", "%"),
        ("field", ""),
        ("url_path", "URLPath"),
    ],
)
def test_words_are_folded_to_snake_case(folded: str, spelled: str) -> None:
    assert folded == naming.snake_case(spelled).rstrip("_")


@pytest.mark.parametrize(
    ("table", "system", "resource"),
    [
        ("dilovod_documents_sale_order", "dilovod", "documents.saleOrder"),
        ("dilovod_balance_registers_goods", "dilovod", "balanceRegisters.goods"),
        ("directo_items", "directo", "items"),
        ("easyflor_debtor", "easyflor", "debtor"),
    ],
)
def test_a_resource_has_its_documented_table(table: str, system: str, resource: str) -> None:
    assert table == naming.table(system, resource)


def test_parts_and_parts_of_parts_add_their_path() -> None:
    owner = naming.table("interpreter", "deliverynote")
    assert naming.part_table(owner, "articles.batches", ()) == "interpreter_deliverynote__articles__batches"


def test_nested_fields_join_with_two_underscores() -> None:
    assert naming.column("tax.rateValue", ()) == "tax__rate_value"


def test_a_clash_after_folding_gets_a_hash_and_always_the_same() -> None:
    second = naming.column("Price", {"price"})
    assert second.startswith("price_")
    assert second == naming.column("Price", {"price"})
    assert second != naming.column("PRICE", {"price"})


paths = st.lists(st.text(max_size=80), min_size=1, max_size=4)


@given(paths)
def test_a_path_gives_its_steps_back(steps: list[str]) -> None:
    path = ""
    for step in steps:
        path = naming.join(path, step)
    assert steps == naming.steps(path)


@given(st.lists(paths, max_size=30, unique_by=tuple))
def test_names_never_clash_and_fit_every_database(all_steps: list[list[str]]) -> None:
    taken: set[str] = set()
    for steps in all_steps:
        path = ""
        for step in steps:
            path = naming.join(path, step)
        name = naming.column(path, taken)
        beside = naming.overflow(name, path, {*taken, name})
        assert len(name.encode()) <= naming.MAX_NAME_BYTES
        assert len(beside.encode()) <= 63
        assert not name.startswith("_")
        assert not {name, beside} & taken
        assert name.lower() == name
        taken |= {name, beside}


@given(st.text(max_size=80), st.text(max_size=80))
def test_no_resource_has_a_parts_table(system: str, resource: str) -> None:
    table = naming.table(f"s{system}", resource)
    assert "__" not in table
    assert len(table.encode()) <= naming.MAX_NAME_BYTES
