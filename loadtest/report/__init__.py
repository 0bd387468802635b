"""Documents about a load test, from its records: HTML page, JUnit XML, Grafana annotations, text for a terminal."""
