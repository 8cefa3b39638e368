"""`python -m workers.cli`: the demo starts `up` this way, independent of the PATH."""

from workers.cli import main

main()
