"""What stands between a request and a planner: cached plans, budgets, limits and circuit breakers."""
