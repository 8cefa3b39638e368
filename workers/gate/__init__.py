"""The gate of each vendor account: leases, rate limit, backoff and the shared session, across processes and hosts."""
