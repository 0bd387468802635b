"""The agent that proposes plans: the only importer of pydantic-ai."""
