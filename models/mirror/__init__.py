"""The mirror: typed tables of the ERPs' objects, and the one path by which they are written."""
