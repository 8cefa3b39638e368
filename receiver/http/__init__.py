"""What every route shares: the server's limits, authentication, addresses and paths, forms, answers and errors."""
