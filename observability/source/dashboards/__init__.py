"""The dashboards as code: a module a board, rendered to Grafana's classic JSON."""
