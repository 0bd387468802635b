"""Load tests of the running service, with Locust."""
