"""Dilovod: webhooks that name an object, point reads, full syncs that find what no webhook announced, registers."""
