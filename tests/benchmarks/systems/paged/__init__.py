"""A system for benchmarks: a vendor who lists whole objects, a thousand a page."""
