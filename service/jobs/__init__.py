"""Jobs: how an accepted extraction comes to be run, here or in another process, on Procrastinate's tables."""
