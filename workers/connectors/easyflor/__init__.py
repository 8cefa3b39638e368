"""EasyFlor: REST with a login for each database, whole collections by night, what changed by day."""
