"""Load on the service: the Locust file of its main job, and benchmarks."""
