"""Adapters that read uploads and run validated plans."""
