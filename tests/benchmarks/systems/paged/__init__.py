"""A system for benchmarks: a vendor that lists whole objects, a thousand a page."""
