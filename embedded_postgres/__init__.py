"""Run a PostgreSQL server from a wheel, on machines that have none. A library that knows nothing of the service."""
