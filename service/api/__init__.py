"""Serve the HTTP API; with `service.app` the only importer of litestar."""
