"""A stand-in for a model provider in a process of its own: valid plans after delays from a latency distribution."""
