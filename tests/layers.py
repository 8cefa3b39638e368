"""The rules of the packages, each a function from a source tree to the list of what breaks it.

A package here is a folder below one of the top packages (`workers.queue`); a module directly in a top package
(`workers.context`) counts as one of its own.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

TOP_PACKAGES = ("receiver", "workers", "models")
"""From the edge to the ground: each may import those behind it."""

PACKAGES = {
    "receiver": ("app", "console", "api", "webhooks", "notifier", "db_timeouts", "pg_timeouts", "http"),
    "workers": (
        "console_script",
        "cli",
        "demo",
        "queue",
        "commands",
        "deliveries",
        "alerts",
        "audit",
        "ingest",
        "context",
        "gate",
        "config",
        "configuration",
        "connectors",
        "errors",
        "lifeline",
    ),
    "models": (
        "status",
        "mirror",
        "bookkeeping",
        "migrations",
        "db",
        "settings",
        "redaction",
        "values",
        "failpoints",
        "notation",
        "exact",
        "durations",
        "private",
    ),
}
"""Inside each top package, likewise from the edge to the ground."""

CONNECTOR_MAY = {
    "models.exact",
    "models.notation",
    "models.values",
    "workers.connectors.commands",
    "workers.connectors.contract",
    "workers.connectors.http",
    "workers.connectors.objects",
    "workers.connectors.record_states",
    "workers.connectors.streaming",
    "workers.errors",
}
MOST_FLAT_FILES = 9
MOST_LINES = 400

Graph = Mapping[str, Iterable[str]]


@dataclass(frozen=True)
class Imports:
    """What one module imports. `runtime`: executed, at its top or inside a function; `typing`: under TYPE_CHECKING."""

    runtime: set[str]
    typing: set[str]

    @property
    def all(self) -> set[str]:
        return self.runtime | self.typing


class Tree:
    """The modules of the top packages below a folder, and who imports whom."""

    def __init__(self, root: Path) -> None:
        self.root = root
        paths = [path for top in TOP_PACKAGES for path in sorted((root / top).rglob("*.py"))]
        self.modules = {self._name(path): path for path in paths}

    @cached_property
    def imports(self) -> dict[str, Imports]:
        return {name: self._read(path) for name, path in self.modules.items()}

    @property
    def connectors(self) -> list[str]:
        """The names of the connector folders."""
        folders = [path.parent for path in (self.root / "workers" / "connectors").glob("*/__init__.py")]
        return sorted(folder.name for folder in folders)

    def own(self, names: set[str]) -> set[str]:
        return names & self.modules.keys()

    def _name(self, path: Path) -> str:
        parts = path.relative_to(self.root).with_suffix("").parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    def _read(self, path: Path) -> Imports:
        found = Imports(set(), set())
        for node, typing in _statements(ast.parse(path.read_text(encoding="utf-8")), typing=False):
            (found.typing if typing else found.runtime).update(self._imported(node))
        return found

    def _imported(self, node: ast.Import | ast.ImportFrom) -> Iterator[str]:
        """`from a import b` counts as a.b where that is a module."""
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
            return
        module = "." * node.level + (node.module or "")
        for alias in node.names:
            yield f"{module}.{alias.name}" if f"{module}.{alias.name}" in self.modules else module


def _statements(node: ast.AST, *, typing: bool) -> Iterator[tuple[ast.Import | ast.ImportFrom, bool]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child, typing
        elif isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING"):
            for each in child.body:
                yield from _statements(ast.Module([each], []), typing=True)
            for each in child.orelse:
                yield from _statements(ast.Module([each], []), typing=typing)
        else:
            yield from _statements(child, typing=typing)


def top_of(module: str) -> str:
    return module.partition(".")[0]


def package_of(module: str) -> str:
    return ".".join(module.split(".")[:2])


def relative_imports(tree: Tree) -> list[str]:
    """Imports that begin with a dot: the other rules cannot see where they lead."""
    return _edges(tree, lambda _, imported: imported.startswith("."))


def backward_imports(tree: Tree) -> list[str]:
    """Imports from the ground to the edge, between the top packages or inside one of them."""
    return _edges(tree, lambda name, imported: _level(imported) < _level(name))


def unplaced_packages(tree: Tree) -> list[str]:
    """Packages without a place in `PACKAGES`."""
    packages = {package_of(name) for name in tree.modules if "." in name}
    known = {f"{top}.{package}" for top in TOP_PACKAGES for package in PACKAGES[top]}
    return sorted(packages - known)


def connector_imports(tree: Tree, folder: str) -> list[str]:
    """What a connector folder imports beside itself, the contract, its helpers and the plain value types."""
    own = f"workers.connectors.{folder}"

    def outside(name: str, imported: str) -> bool:
        ours = top_of(imported) in TOP_PACKAGES and not within(imported, own) and imported not in CONNECTOR_MAY
        return within(name, own) and (ours or top_of(imported) in {"celery", "kombu", "sqlalchemy"})

    return _edges(tree, outside)


def celery_outside_queue(tree: Tree) -> list[str]:
    """Celery and kombu imported elsewhere than in `workers.queue`."""
    return _edges(
        tree, lambda name, imported: top_of(imported) in {"celery", "kombu"} and not within(name, "workers.queue")
    )


def httpx_outside_connectors(tree: Tree) -> list[str]:
    """httpx and httpcore imported elsewhere than by connectors and deliveries; the others ask through those."""
    may = ("workers.connectors", "workers.deliveries")
    return _edges(
        tree,
        lambda name, imported: (
            top_of(imported) in {"httpx", "httpcore"} and not any(within(name, package) for package in may)
        ),
    )


def module_circles(tree: Tree) -> list[str]:
    """Modules that import each other when they run."""
    return _circles({name: tree.own(each.runtime) for name, each in tree.imports.items()})


def typing_circles(tree: Tree) -> list[str]:
    """Modules that import each other when imports under TYPE_CHECKING count, too."""
    return _circles({name: tree.own(each.all) for name, each in tree.imports.items()})


def package_circles(tree: Tree) -> list[str]:
    """Packages whose modules import each other, under TYPE_CHECKING or not."""
    graph: dict[str, set[str]] = {}
    for name, each in tree.imports.items():
        package = package_of(name)
        graph.setdefault(package, set()).update({package_of(found) for found in tree.own(each.all)} - {package})
    return _circles(graph)


def crowded_packages(tree: Tree) -> list[str]:
    """Top packages with too many modules directly in them."""
    flat = {top: len(list((tree.root / top).glob("*.py"))) for top in TOP_PACKAGES}
    return [f"{top} has {count} flat files" for top, count in flat.items() if count > MOST_FLAT_FILES]


def long_files(tree: Tree) -> list[str]:
    """Files over the limit; a sandbox may hold as many samples as its vendor needs."""
    lines = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in tree.modules.values()}
    return [
        f"{path.relative_to(tree.root)} has {count} lines"
        for path, count in lines.items()
        if count > MOST_LINES and not path.name.startswith("sandbox")
    ]


def within(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def _edges(tree: Tree, forbidden: Callable[[str, str], bool]) -> list[str]:
    return [
        f"{name} imports {imported}"
        for name, each in tree.imports.items()
        for imported in sorted(each.all)
        if forbidden(name, imported)
    ]


def _level(module: str) -> tuple[int, int]:
    """How far from the edge: the greater, the nearer to the ground. What is not ours, or in no order, is the ground."""
    top, _, rest = module.partition(".")
    if top not in TOP_PACKAGES:
        return len(TOP_PACKAGES), 0
    order = PACKAGES[top]
    package = rest.partition(".")[0]
    return TOP_PACKAGES.index(top), order.index(package) if package in order else len(order)


def _circles(graph: Graph) -> list[str]:
    """The strongly connected components of more than one node: each is a circle, or several that share a node."""
    reach = {node: _reachable(graph, node) for node in graph}
    components = {frozenset(other for other in reach[node] if node in reach.get(other, ())) for node in graph}
    return sorted(" <-> ".join(sorted(each)) for each in components if each)


def _reachable(graph: Graph, start: str) -> set[str]:
    """What can be reached from a node in one step or more."""
    found: set[str] = set()
    waiting = [start]
    while waiting:
        news = set(graph.get(waiting.pop(), ())) - found
        found |= news
        waiting += news
    return found
