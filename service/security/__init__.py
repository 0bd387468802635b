"""API keys, access tokens and rate limits."""
