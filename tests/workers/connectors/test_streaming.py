"""The states that are kept by key while a long response is read."""

from __future__ import annotations

import tracemalloc

from workers.connectors import streaming


def test_the_first_state_of_a_key_is_kept_until_it_is_replaced() -> None:
    with streaming.SeenKeys() as seen:
        assert [None, b"1", b"1"] == [seen.remember("a", state) for state in (b"1", b"2", b"1")]
        seen.replace("a", b"3")
        assert [b"3", None] == [seen.remember("a", b"4"), seen.remember("b", b"1")]


def test_any_text_can_be_a_key() -> None:
    keys = ["", "é", "e\u0301", "\ud800", "\x00", "A", "a"]
    with streaming.SeenKeys() as seen:
        assert [None] * len(keys) == [seen.remember(key, b"") for key in keys]


def test_stored_states_use_no_memory_of_the_process() -> None:
    with streaming.SeenKeys() as seen:
        tracemalloc.start()
        try:
            for number in range(20_000):
                seen.remember(f"key {number}", b"0123456789abcdef")
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < 20_000
