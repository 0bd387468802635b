"""Manage accepted extractions: run, retry, cancel, repeat, delete."""
