"""Deliver webhooks (Standard Webhooks): check addresses, sign messages, send them and retry."""
