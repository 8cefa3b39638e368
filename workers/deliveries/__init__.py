"""Tells subscribers: each change of the journal is posted to the programs whose filter it matches."""
