"""What erpmirror keeps about its own work: webhooks, pending keys, streams, documents and the journal of changes."""
