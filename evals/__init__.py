"""How good planners are: sentences over profiles of real shapes, and what a good plan of each must have."""
