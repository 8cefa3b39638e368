from __future__ import annotations

import resource
import subprocess
import sys

import pytest

from receiver.http import open_files

SHOW = """
import resource, sys
from receiver.http import open_files
resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[1]), int(sys.argv[2])))
open_files.raise_limit()
print(resource.getrlimit(resource.RLIMIT_NOFILE)[0], open_files.most_connections(), open_files.most_readers())
"""


@pytest.mark.parametrize(
    ("soft", "hard", "expected"),
    [
        (1024, 1024, (1024, 640, 320)),
        (1024, 4096, (4096, 3712, 1856)),
        (1024, 9000, (8192, 7808, 2000)),
        (8999, 9000, (8999, 7808, 2000)),
        (256, 256, (256, 128, 64)),
    ],
)
def test_connections_and_readers_fit_into_the_limit_of_open_files_which_is_raised(
    soft: int, hard: int, expected: tuple[int, int, int]
) -> None:
    if resource.getrlimit(resource.RLIMIT_NOFILE)[1] < hard:
        pytest.skip("this machine allows fewer open files")
    shown = subprocess.run(
        [sys.executable, "-c", SHOW, str(soft), str(hard)], check=True, capture_output=True, text=True
    ).stdout
    assert expected == tuple(map(int, shown.split()))


def test_webhooks_find_room_beside_all_readers() -> None:
    assert 2 * open_files.most_readers() <= open_files.most_connections()
