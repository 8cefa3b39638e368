"""A webhook's way in: route, payload, shared commit, and the spool for when the database is down."""
