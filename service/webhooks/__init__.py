"""Webhooks: which addresses may be called, what is sent to them (Standard Webhooks), and the attempts to deliver it."""
