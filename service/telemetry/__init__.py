"""Metrics, traces and logs, built from one catalog."""
