"""Tests that share a service's fixed names run one after the other, in one process."""

from __future__ import annotations

import pytest


@pytest.mark.xdist_group("together")
def test_a_test_of_a_group_is_scheduled_under_its_groups_name(request: pytest.FixtureRequest, worker_id: str) -> None:
    assert "master" == worker_id or request.node.nodeid.endswith("@together")
