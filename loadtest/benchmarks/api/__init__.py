"""What a request costs: this service against a plain design of the same job, layer by layer."""
