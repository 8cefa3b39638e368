"""`python -m workers.cli`: `up` starts its processes this way, independent of the PATH."""

from workers.cli import main

main()
