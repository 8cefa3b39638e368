"""Wisedat, a Portuguese ERP: lists bring summaries, so what they name is fetched; deletions show in full listings."""
