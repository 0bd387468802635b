"""Webhooks on the wire: signatures as Standard Webhooks describes, and requests to none but the addresses checked."""
