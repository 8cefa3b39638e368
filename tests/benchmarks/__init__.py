"""What erpmirror costs, each figure a ratio to a reference that was measured in the same run.

`python -m tests.benchmarks [NAME …]` runs all questions or the named ones; each module with a `QUESTION` is one.
"""
