"""`builtin:planner`: a model without weights that plans by rules, from what any model sees of a dataset."""
