"""Proofs of every alert, rendered as unit tests for promtool."""
