"""Run the benchmarks: all of them, or those that are named."""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import sys

from tests import benchmarks
from tests.benchmarks import report
from tests.benchmarks.measure import say

_ROUNDS = 5


def main() -> int:
    """Measure, print one table, draw one chart, write README's; 1 where something falls short of what it must reach."""
    modules = {module.name: importlib.import_module(f"{benchmarks.__name__}.{module.name}") for module in _modules()}
    questions = {name: module for name, module in modules.items() if hasattr(module, "QUESTION")}
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks",
        description="What erpmirror costs, as ratios to references of the same run. Needs PostgreSQL and Redis "
        "(ERPMIRROR_TEST_POSTGRESQL, ERPMIRROR_TEST_REDIS) and `pip install -e '.[test,benchmarks]'`.",
        epilog="\n".join(f"{name:12} {module.QUESTION}" for name, module in questions.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", nargs="*", help="which questions (all)")
    parser.add_argument("--rounds", type=int, default=_ROUNDS, help=f"how often each is measured ({_ROUNDS})")
    chosen = parser.parse_args()
    if unknown := set(chosen.name) - questions.keys():
        parser.error(f"no question {', '.join(sorted(unknown))}; there are {', '.join(questions)}")
    for name in chosen.name or questions:
        say(f"{name}: {questions[name].QUESTION}")
        report.save(name, questions[name].answers(chosen.rounds))
    answers = [answer for name, some in report.load().items() if name in (chosen.name or questions) for answer in some]
    report.table(answers)
    report.chart([answer for some in report.load().values() for answer in some])
    report.readme(report.load())
    return 0 if all(answer.reaches(answer.must) for answer in answers) else 1


def _modules() -> list[pkgutil.ModuleInfo]:
    return [module for module in pkgutil.iter_modules(benchmarks.__path__) if module.name != "__main__"]


if __name__ == "__main__":
    sys.exit(main())
