"""What happens to an extraction after it was accepted: run, retry, cancel, answer again, delete."""
