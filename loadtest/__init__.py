"""Load tests: what the service bears, and what it costs."""
