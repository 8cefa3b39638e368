"""Takes commands from callers: checks them, describes what can be sent, and stores them. `ingest.command` sends."""
