"""The work: the Celery app, its thin tasks, ingest (read this first), the gate, the connectors, the command line."""
