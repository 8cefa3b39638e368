"""Dilovod: webhooks that name an object, point reads, a sweep for what no webhook tells, registers as snapshots."""
