"""How the bookkeeping tables came to be what they are. `models.migration` runs this."""
