"""How the bookkeeping tables came to be what they are. `models.db.migration` runs this."""
