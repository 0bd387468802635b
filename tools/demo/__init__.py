"""The demo: start the service, send it one request over HTTP, and show its result, trace, log lines and metrics."""
