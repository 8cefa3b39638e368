"""Runs the demo as a newcomer does: exit status 0 means that the mirror equals the sandboxes."""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

README = Path(__file__).parents[3] / "README.md"


@pytest.mark.slow
def test_the_demo_ends_with_an_equal_mirror_that_answers_the_queries_of_the_readme(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "workers.cli", "demo", "--once", "--folder", str(tmp_path)]
    environment = os.environ | {"NO_COLOR": "1", "COLUMNS": "120"}
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=500)
    assert 0 == ended.returncode, ended.stdout + ended.stderr
    assert "The mirror equals the sandboxes." in ended.stdout
    queries = re.findall(r"```sql\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    expected = [["customer", "number", "date", "item"], ["file", "supplier_name", "article_name", "batch_id"]]
    with closing(sqlite3.connect(tmp_path / "var" / "erpmirror.db")) as link:
        for columns, query in zip(expected, queries, strict=False):
            cursor = link.execute(query)
            assert columns == [column[0] for column in cursor.description][:4]
            assert cursor.fetchall()
