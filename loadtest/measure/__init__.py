"""What a run measures beside its clients: the service's own metrics, the machine, the end of every extraction."""
