"""Programs around the service: the demonstration, backups, and the drills that break real processes.

Nothing in `service` imports this package; the command line finds its commands here by name (`service/__main__.py`).
`demo` and `backup` are installed with the service and need nothing else. The other programs run from a checkout:
`soak`, `rolling` and `gameday` on the processes of `testbed`, `dev` and `release`.
"""
