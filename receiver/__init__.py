"""The HTTP edge: believes nobody, keeps what it accepts, rings the bell."""
