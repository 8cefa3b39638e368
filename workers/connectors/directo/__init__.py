"""Directo, an Estonian ERP: asked for what changed, by `ts`; its list of deletions is believed after a look."""
