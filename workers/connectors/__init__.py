"""One folder per system. A sixth system is one more folder; nothing else is edited."""
