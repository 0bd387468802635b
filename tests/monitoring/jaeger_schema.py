"""What Jaeger v2 understands, as far as this bundle uses it: components and their documented keys.

Sources: the configuration pages of Jaeger 2 (storage, query, service performance monitoring) and of the components of
the OpenTelemetry Collector that its distribution contains (otlp receiver; batch, memory_limiter and tail_sampling
processors; spanmetrics connector; prometheus exporter; healthcheckv2 extension). A key outside the set is a mistake
here, even where the Collector would know it: it has to be looked up and added first.
"""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]
"""Keys and what is below them: another schema, a type, a tuple of all values, or a list with the schema of an item."""

LEAF = (str, int, float, bool)
ENDPOINT: Schema = {"endpoint": str}
_POLICY: Schema = {
    "name": str,
    "type": ("status_code", "latency", "string_attribute", "boolean_attribute", "ottl_condition"),
    "status_code": {"status_codes": [("ERROR", "OK", "UNSET")]},
    "latency": {"threshold_ms": int, "upper_threshold_ms": int},
    "string_attribute": {"key": str, "values": [str], "enabled_regex_matching": bool, "invert_match": bool},
    "boolean_attribute": {"key": str, "value": bool, "invert_match": bool},
    "ottl_condition": {"error_mode": ("ignore", "silent", "propagate"), "span": [str], "spanevent": [str]},
}
COMPONENTS: dict[str, dict[str, Schema]] = {
    "extensions": {
        "healthcheckv2": {"use_v2": bool, "http": ENDPOINT, "grpc": ENDPOINT},
        "jaeger_storage": {
            "backends": {
                "*": {
                    "badger": {
                        "directories": {"keys": str, "values": str},
                        "ephemeral": bool,
                        "ttl": {"spans": str},
                        "maintenance_interval": str,
                        "metrics_update_interval": str,
                    },
                    "memory": {"max_traces": int},
                }
            },
            "metric_backends": {
                "*": {
                    "prometheus": {
                        "endpoint": str,
                        "normalize_calls": bool,
                        "normalize_duration": bool,
                        "metric_namespace": str,
                        "latency_unit": ("ms", "s"),
                    }
                }
            },
        },
        "jaeger_query": {
            "storage": {"traces": str, "traces_archive": str, "metrics": str},
            "base_path": str,
            "ui": {"config_file": str},
            "http": ENDPOINT,
            "grpc": ENDPOINT,
        },
    },
    "receivers": {"otlp": {"protocols": {"grpc": ENDPOINT, "http": ENDPOINT}}},
    "processors": {
        "batch": {"timeout": str, "send_batch_size": int, "send_batch_max_size": int},
        "memory_limiter": {"check_interval": str, "limit_mib": int, "spike_limit_mib": int},
        "tail_sampling": {
            "sampling_strategy": ("trace-complete", "span-ingest"),
            "decision_wait": str,
            "decision_wait_after_root_received": str,
            "num_traces": int,
            "expected_new_traces_per_sec": int,
            "decision_cache": {"sampled_cache_size": int, "non_sampled_cache_size": int},
            "policies": [_POLICY],
        },
    },
    "connectors": {
        "spanmetrics": {
            "metrics_flush_interval": str,
            "aggregation_cardinality_limit": int,
            "namespace": str,
            "histogram": {"unit": ("ms", "s"), "explicit": {"buckets": [str]}},
            "dimensions": [{"name": str, "default": str}],
        }
    },
    "exporters": {"jaeger_storage_exporter": {"trace_storage": str}, "prometheus": ENDPOINT},
}
SERVICE: Schema = {
    "extensions": [str],
    "pipelines": {"*": {"receivers": [str], "processors": [str], "exporters": [str]}},
    "telemetry": {
        "resource": {"service.name": str},
        "metrics": {
            "level": ("none", "basic", "normal", "detailed"),
            "readers": [{"pull": {"exporter": {"prometheus": {"host": str, "port": (int, str)}}}}],
        },
        "logs": {"level": ("debug", "info", "warn", "error"), "encoding": ("console", "json")},
    },
}


def unknown(value: Any, schema: Any, where: str) -> list[str]:
    """What of the value the schema does not know, a line each."""
    if isinstance(schema, dict):
        if not isinstance(value, dict):
            return [f"{where}: not a mapping"]
        found: list[str] = []
        for key, below in value.items():
            inner = schema.get(key, schema.get("*"))
            path = f"{where}.{key}"
            found += [f"{path}: no such key"] if inner is None else unknown(below, inner, path)
        return found
    if isinstance(schema, list):
        if not isinstance(value, list):
            return [f"{where}: not a list"]
        return [line for at, one in enumerate(value) for line in unknown(one, schema[0], f"{where}[{at}]")]
    if isinstance(schema, tuple) and isinstance(schema[0], str):
        return [] if value in schema else [f"{where}: {value!r} is none of {', '.join(schema)}"]
    return [] if isinstance(value, schema) else [f"{where}: {value!r} is of another type"]


def faults(configuration: dict[str, Any]) -> list[str]:
    """Every fault of a configuration: unknown components and keys, and names that lead nowhere."""
    found: list[str] = []
    service = configuration["service"]
    for section, components in configuration.items():
        if section == "service":
            found += unknown(service, SERVICE, section)
        elif section not in COMPONENTS:
            found.append(f"{section}: no such section")
        else:
            found += unknown(components, COMPONENTS[section], section)
    return [*found, *_references(configuration)]


def _references(configuration: dict[str, Any]) -> list[str]:
    """Components that are used and not defined, or defined and not used; storages that nobody defines."""
    service = configuration["service"]
    connectors = set(configuration["connectors"])
    used: dict[str, set[str]] = {"extensions": set(service["extensions"])}
    joined: dict[str, set[str]] = {"receivers": set(), "exporters": set()}
    for pipeline in service["pipelines"].values():
        for kind, names in pipeline.items():
            used.setdefault(kind, set()).update(set(names) - connectors)
            joined.setdefault(kind, set()).update(set(names) & connectors)
    used["connectors"] = joined["receivers"] & joined["exporters"]
    found = [
        f"{kind}: {', '.join(sorted(names ^ set(configuration[kind])))} is defined and not used, or the reverse"
        for kind, names in used.items()
        if names != set(configuration[kind])
    ]
    storage = configuration["extensions"]["jaeger_storage"]
    asked = configuration["extensions"]["jaeger_query"]["storage"]
    if not {asked["traces"], configuration["exporters"]["jaeger_storage_exporter"]["trace_storage"]} <= set(
        storage["backends"]
    ):
        found.append("traces are written to, or read from, a storage that is not defined")
    if asked.get("metrics") not in storage["metric_backends"]:
        found.append("metrics are read from a storage that is not defined")
    return found
