"""Real processes to start, break and audit: the service's own, PostgreSQL, Redis and a scripted model provider."""
