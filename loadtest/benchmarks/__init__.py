"""Benchmarks: what things cost, measured side by side and written down."""
