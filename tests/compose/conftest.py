"""One installation for all tests of this folder: it takes minutes to build."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.compose import site as sites

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.compose.site import Site


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site that mirrors its vendor; skips where no engine with Compose answers at $DOCKER_HOST or its default."""
    for command in (["docker", "version"], ["docker", "compose", "version"]):
        if shutil.which("docker") is None or subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip(f"`{' '.join(command)}` fails; DOCKER_HOST is {os.environ.get('DOCKER_HOST', 'not set')}")
    with sites.installed(tmp_path_factory.mktemp("site")) as installed:
        yield installed
