"""What every route shares: the server's limits, authentication, client addresses, forms, answers and errors."""
