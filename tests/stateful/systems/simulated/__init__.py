"""A system whose vendor is simulated in the test's own process."""
