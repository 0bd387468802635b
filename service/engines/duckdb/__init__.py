"""The DuckDB engine: in-process, one locked-down connection a job."""
