"""The compiler: a validated plan as one SQL syntax tree, and its spelling in each engine's dialect."""
