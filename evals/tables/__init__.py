"""The tables behind the profiles: generated from fixed seeds, read through the service's own ingest."""
