"""The HTTP edge: stores webhooks and documents before it answers, wakes workers, and serves the journal."""
