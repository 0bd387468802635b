"""The same job as a tutorial for production writes it: FastAPI, one http middleware, sync Redis, pickled states."""
