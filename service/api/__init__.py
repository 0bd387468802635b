"""The HTTP edge: with `service.app` the only importer of litestar."""
