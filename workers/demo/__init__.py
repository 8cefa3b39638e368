"""The demo: runs the product against the sandboxes, and compares the mirror with them."""
