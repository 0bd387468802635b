"""`make up` and `make down`: compose.yaml with its secrets, its waiting and its first requests."""
