"""Composes the parts of a process from its settings, opens them in order, and closes them in reverse."""
