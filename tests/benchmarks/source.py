"""What a benchmark knows of a vendor; apart from the sandboxes, so that no side of a load has to import them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

COUNT = "/requests-so-far"
"""Where a vendor of `vendors` tells how many requests it has received."""


@dataclass(frozen=True, slots=True)
class Source:
    """A vendor as a benchmark reads it.

    `settings`: its `[connections.*]` table. `resource`: what is loaded; a plain request finds it at `path`, with
    `headers`; "" where no plain request does. `key`: the field that names an object.
    """

    settings: dict[str, Any]
    resource: str
    path: str
    headers: dict[str, str]
    key: str

    @property
    def table(self) -> str:
        """The mirror's table."""
        return f"{self.settings['system']}_{self.resource}"
