"""EasyFlor: a REST API with a login per database; full syncs in its opening hours, polls at any time."""
