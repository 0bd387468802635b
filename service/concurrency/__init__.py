"""Helpers of concurrent code: batching, deadlines, shielded tasks, and servers that the service can do without."""
