"""Backup and restore: `feature-agent backup URL` and `feature-agent restore URL`."""
