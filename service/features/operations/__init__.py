"""The closed set of typed operations and their translation into an SQL syntax tree."""
