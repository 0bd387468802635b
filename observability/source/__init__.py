"""Renders what is generated in `observability/` (and `docs/`) from `slo.yaml` and the telemetry catalog."""
