"""One numbered file per step. A released step is never edited."""
