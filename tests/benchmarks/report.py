"""The table and the chart. Results are stored in a file, so that one question can be measured again alone."""

from __future__ import annotations

import json
import platform
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from tests.benchmarks.measure import Answer

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

RESULTS = Path(__file__).with_name("results.json")
CHART = Path(__file__).with_name("results.svg")
README = Path(__file__).parents[2] / "README.md"

_TABLE = re.compile(r"^\| question \|.*\n(?:\|.*\n)+", re.MULTILINE)
_IN_README = (
    "webhooks",
    "latency",
    "commands",
    "telling",
    "first_load",
    "memory",
    "footprint",
    "growth",
    "idle",
    "large",
    "requests",
)
"""The order of the questions there."""


def load() -> dict[str, list[Answer]]:
    """Name -> the answers of its last run."""
    if not RESULTS.exists():
        return {}
    return {
        name: [Answer(**answer) for answer in result["answers"]]
        for name, result in json.loads(RESULTS.read_text()).items()
    }


def save(name: str, answers: Iterable[Answer]) -> None:
    """Replace the answers of the last run."""
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    results[name] = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "answers": [answer.as_json() for answer in answers],
    }
    RESULTS.write_text(json.dumps(dict(sorted(results.items())), indent=1) + "\n")


def table(answers: Sequence[Answer]) -> None:
    """Print one line an answer."""
    printed = Table(title="erpmirror against references of the same run")
    for column in ("question", "reference", "ratio", "spread", "must", "aim", "ours", "reference's", ""):
        printed.add_column(column, justify="left" if column in {"question", "reference", ""} else "right")
    for answer in answers:
        least, most = answer.spread
        sign = "≥" if answer.better == "higher" else "≤"
        printed.add_row(
            answer.question,
            answer.against,
            f"{answer.ratio:.3g}",
            f"{least:.3g} … {most:.3g}",
            f"{sign} {answer.must:g}",
            f"{sign} {answer.aim:g}",
            f"{_median(answer.ours):.4g} {answer.unit}",
            f"{_median(answer.reference):.4g} {answer.unit}",
            _verdict(answer),
        )
    Console(width=200).print(printed)
    for answer in answers:
        if answer.note:
            Console(width=200).print(f"{answer.question}: {answer.note}", highlight=False)


def readme(results: dict[str, list[Answer]]) -> None:
    """Replace the table in README."""
    rows = ["| question | compared with | ratio | spread | must | aim |", "|---|---|---|---|---|---|"]
    for name in sorted(results, key=_IN_README.index):
        for answer in results[name]:
            least, most = answer.spread
            sign, short = "≥" if answer.better == "higher" else "≤", "" if answer.reaches(answer.must) else " **short**"
            figures = (
                f"{answer.ratio:.3g}{short} | {least:.3g} … {most:.3g} | {sign} {answer.must:g} | {sign} {answer.aim:g}"
            )
            rows.append(f"| {answer.question} | {answer.against} | {figures} |")
    text = README.read_text(encoding="utf-8")
    README.write_text(_TABLE.sub(lambda _: "\n".join(rows) + "\n", text, count=1), encoding="utf-8")


def chart(answers: Sequence[Answer]) -> None:
    """Draw how far each ratio is beyond what it must reach (1 = just reached; further right is better)."""
    import matplotlib as mpl  # noqa: PLC0415 - only the chart needs it

    mpl.use("svg")
    from matplotlib import pyplot as plt  # noqa: PLC0415 - after the choice above

    figure, axes = plt.subplots(figsize=(9, 0.45 * len(answers) + 1.2))
    names = [f"{answer.question}\n/ {answer.against}" for answer in answers]
    for place, answer in enumerate(answers):
        beyond = [_beyond(answer, ratio) for ratio in answer.ratios]
        axes.plot([min(beyond), max(beyond)], [place, place], color="#8899aa", linewidth=2)
        axes.plot([_beyond(answer, answer.ratio)], [place], "o", color="#1f6fb2")
        axes.plot([_beyond(answer, answer.aim)], [place], "|", color="#2a9d4a", markersize=14)
    axes.axvline(1, color="#c0392b", linewidth=1)
    axes.set_xscale("log")
    axes.set_yticks(range(len(answers)), names, fontsize=6)
    axes.invert_yaxis()
    axes.set_xlabel("times what it must reach (red), aim (green), median and spread (blue)", fontsize=7)
    figure.tight_layout()
    figure.savefig(CHART, metadata={"Date": None})


def _beyond(answer: Answer, ratio: float) -> float:
    if answer.better == "higher":
        return ratio / answer.must
    return answer.must / max(ratio, 1e-3)


def _verdict(answer: Answer) -> str:
    if answer.reaches(answer.aim):
        return "aim"
    return "reached" if answer.reaches(answer.must) else "SHORT"


def _median(figures: list[float]) -> float:
    ordered = sorted(figures)
    return ordered[len(ordered) // 2]
