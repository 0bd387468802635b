"""Plan by rules instead of a language model: the model `builtin:planner`."""
