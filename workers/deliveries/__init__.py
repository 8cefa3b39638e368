<<<<<<< HEAD
"""Tells subscriptions of changes: signed POSTs, in order per object, at least once."""
=======
"""Tells subscribers: each change of the journal is posted to the programs whose filter it matches."""
>>>>>>> subscriptions-cli
