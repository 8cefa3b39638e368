"""Directo, an Estonian ERP: polled by `ts`; each entry of its list of deletions is verified by a point read."""
