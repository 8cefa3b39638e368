"""Bringing objects from a vendor into the mirror: start with `loop`."""
