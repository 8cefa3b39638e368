"""A system whose vendor the test plays in its own process."""
