"""The service on Kubernetes: README.md here says how; `kind` sets up a cluster on one's own machine."""
