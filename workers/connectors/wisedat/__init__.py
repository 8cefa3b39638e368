"""Wisedat, a Portuguese ERP. Lists contain summaries, so details are fetched; only full syncs find deletions."""
