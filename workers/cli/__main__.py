"""`python -m workers.cli`: how `up` starts its processes, whatever is on the PATH."""

from workers.cli import main

main()
