"""Tells subscriptions of changes: signed POSTs, in order per object, at least once."""
