"""The settings file: its sections and connections, read and checked, with a remedy for each mistake."""
