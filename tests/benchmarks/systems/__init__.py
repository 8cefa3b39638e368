"""Connector folders of the benchmarks."""
