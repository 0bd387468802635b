"""Helpers of concurrent code: batching, deadlines, shielded tasks, threads, servers that the service can do without."""
