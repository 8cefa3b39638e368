"""What is remembered of a long answer."""

from __future__ import annotations

import tracemalloc

from workers.connectors import streaming


def test_of_each_key_the_first_state_is_remembered_until_it_is_replaced() -> None:
    with streaming.Met() as met:
        assert [None, b"1", b"1"] == [met.first("a", state) for state in (b"1", b"2", b"1")]
        met.replace("a", b"3")
        assert [b"3", None] == [met.first("a", b"4"), met.first("b", b"1")]


def test_any_text_is_a_key() -> None:
    keys = ["", "é", "e\u0301", "\ud800", "\x00", "A", "a"]
    with streaming.Met() as met:
        assert [None] * len(keys) == [met.first(key, b"") for key in keys]


def test_what_is_remembered_leaves_no_object_in_memory() -> None:
    with streaming.Met() as met:
        tracemalloc.start()
        try:
            for number in range(20_000):
                met.first(f"key {number}", b"0123456789abcdef")
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < 20_000
