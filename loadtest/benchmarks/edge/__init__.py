"""What the limits of connections cost a request: uvicorn's own protocol beside the one with limits."""
