"""The work: Celery app and tasks, ingest (start with `ingest/loop.py`), the gate, the connectors, the command line."""
