"""Produce metrics, traces and logs, all described by one catalog."""
