"""Telemetry health: can the other boards be believed."""

from __future__ import annotations

from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models import units

from observability.source.dashboards import links
from observability.source.dashboards.board import Board, Row
from observability.source.dashboards.names import TELEMETRY
from observability.source.dashboards.panels import Look, Query, lines, number, states
from observability.source.dashboards.promql import counted

NOT_SCRAPED = "{} gives no numbers: it is down, or not scraped here"
NO_LOGS = "Neither Alloy nor Loki gives numbers: they are down, or not scraped here"
RATE = "[$__rate_interval]"
SPANS = (
    links.logs("Log lines about spans", "|~ `(?i)span|export`"),
    links.traces("Traces"),
)
MONITORING = (links.metrics("Targets that are down", "up == 0"),)


def board() -> Board:
    """The board."""
    return Board(
        TELEMETRY,
        "Telemetry health",
        "Whether metrics are scraped, rules evaluated, alerts delivered, spans and log lines kept: what every other "
        "board relies on.",
        [
            Row("Metrics", [targets(), slowest(), samples(), held(), exemplars()]),
            Row("Rules and alerts", [rule_failures(), rule_time(), lost_alerts(), notified(), active()]),
            Row("Traces", [dropped(), spans(), sampled(), evicted()]),
            Row("Logs", [lines_in(), lines_lost()]),
        ],
    )


def targets() -> model.Panel:
    """Which targets answer."""
    return states(
        "Targets",
        "Share of each job's targets that answered their last scrape: all, some or none.",
        [Query("avg by (job) (up)", "{{job}}")],
        Look(
            units.PercentUnit,
            12,
            10,
            words={
                "1": ("all answer", "green"),
                "0.001..0.999": ("some answer", "orange"),
                "0": ("none answers", "red"),
            },
            links=MONITORING,
            empty="Prometheus scrapes nothing",
        ),
    )


def slowest() -> model.Panel:
    """How long scrapes take."""
    return lines(
        "Duration of scrapes",
        "How long the slowest target of each job took. At scrape_timeout (10 s) its numbers are lost.",
        [Query("max by (job) (scrape_duration_seconds)", "{{job}}")],
        Look(units.Seconds, 12, 10, thresholds={5: "orange", 10: "red"}, links=MONITORING),
    )


def samples() -> model.Panel:
    """Samples of the service's targets."""
    kept = 'scrape_samples_post_metric_relabeling{job=~"$job",instance=~"$instance",job=~"feature-agent.*"}'
    return lines(
        "Samples a scrape",
        "Samples that each process of the service gives. At sample_limit (20,000) the whole scrape is refused; growth "
        "without new code means a label that is not from a closed set.",
        [Query(kept, "{{instance}} {{job}}")],
        Look(units.Short, thresholds={16000: "orange", 20000: "red"}, links=MONITORING),
    )


def held() -> model.Panel:
    """Series in Prometheus."""
    return lines(
        "Series",
        "Series that Prometheus holds in memory.",
        [Query("max(prometheus_tsdb_head_series)", "series")],
        Look(units.Short, links=MONITORING, empty=NOT_SCRAPED.format("Prometheus")),
    )


def exemplars() -> model.Panel:
    """Exemplars in Prometheus."""
    return number(
        "Exemplars",
        "Exemplars that Prometheus keeps. 0 means that it runs without --enable-feature=exemplar-storage, or that no "
        "trace was sampled: the dots are missing from panels then.",
        [Query("max(prometheus_tsdb_exemplar_exemplars_in_storage)", "exemplars")],
        Look(
            units.Short, thresholds={1: "green"}, base="red", links=MONITORING, empty=NOT_SCRAPED.format("Prometheus")
        ),
    )


def _by_group(expression: str, aggregated: str = "sum") -> str:
    """By the group's name alone, without its file."""
    return f'{aggregated} by (group) (label_replace({expression}, "group", "$1", "rule_group", ".*;(.*)"))'


def rule_failures() -> model.Panel:
    """Rules that failed."""
    failed = _by_group(f"60 * rate(prometheus_rule_evaluation_failures_total{RATE})")
    anything = _by_group("increase(prometheus_rule_evaluation_failures_total[$__range] @ end())")
    return lines(
        "Failed rules",
        "Evaluations of rules a minute that failed, by group. A rule that fails raises no alert.",
        [Query(f"{failed} and {anything} > 0", "{{group}}")],
        Look(
            units.OpsPerMinute,
            links=MONITORING,
            empty="No rule failed in this time range, or Prometheus gives no numbers",
        ),
    )


def rule_time() -> model.Panel:
    """Share of their interval that groups take."""
    taken = "prometheus_rule_group_last_duration_seconds / prometheus_rule_group_interval_seconds"
    return lines(
        "Time of rule groups",
        "Share of its interval that the last evaluation of each group took. Above 1 evaluations are skipped; the "
        "axis ends at 2, the legend has the highest.",
        [Query(_by_group(taken, "max"), "{{group}}")],
        Look(
            units.PercentUnit,
            thresholds={0.5: "orange", 1: "red"},
            maximum=2,
            links=MONITORING,
            empty=NOT_SCRAPED.format("Prometheus"),
        ),
    )


def lost_alerts() -> model.Panel:
    """Alerts that did not reach Alertmanager."""
    return lines(
        "Alerts on their way",
        "Alerts a minute that Prometheus sent to Alertmanager, failed to send, and dropped for good.",
        [
            Query(f"60 * sum(rate(prometheus_notifications_sent_total{RATE}))", "sent"),
            Query(f"60 * sum(rate(prometheus_notifications_errors_total{RATE}))", "failed"),
            Query(f"60 * sum(rate(prometheus_notifications_dropped_total{RATE}))", "dropped"),
        ],
        Look(
            units.OpsPerMinute,
            colours={"failed": "orange", "dropped": "red"},
            links=MONITORING,
            empty=NOT_SCRAPED.format("Prometheus"),
        ),
    )


def notified() -> model.Panel:
    """Notifications of Alertmanager."""
    return lines(
        "Notifications",
        "Notifications a minute that Alertmanager sent, and that failed, by the way they take.",
        [
            Query(f"60 * sum by (integration) (rate(alertmanager_notifications_total{RATE}))", "{{integration}}"),
            Query(
                f"60 * sum by (integration) (rate(alertmanager_notifications_failed_total{RATE}))",
                "{{integration}} failed",
            ),
        ],
        Look(
            units.OpsPerMinute,
            12,
            colours={".* failed": "red"},
            links=MONITORING,
            empty=NOT_SCRAPED.format("Alertmanager"),
        ),
    )


def active() -> model.Panel:
    """Alerts in Alertmanager."""
    return lines(
        "Alerts in Alertmanager",
        "Alerts that Alertmanager holds: active ones are told, suppressed ones are silenced or inhibited. The Watchdog "
        "is always among them.",
        [Query("max by (state) (alertmanager_alerts)", "{{state}}")],
        Look(units.Short, 12, links=MONITORING, empty=NOT_SCRAPED.format("Alertmanager")),
    )


def dropped() -> model.Panel:
    """Spans that the service lost."""
    return lines(
        "Spans that the service lost",
        "Finished spans a minute that never reached the collector: the queue was full, an export failed, or the "
        "process ended. Traces have holes then.",
        [Query(counted("telemetry_spans_dropped_total", by=("job",)), "{{job}}")],
        Look(units.CountsPerMinute, 6, links=SPANS, empty="No span was lost in this time range, or tracing is off"),
    )


def spans() -> model.Panel:
    """Spans that Jaeger took and stored."""
    return lines(
        "Spans in Jaeger",
        "Spans a second that Jaeger accepted, refused, and stored after sampling.",
        [
            Query(f"sum(rate(otelcol_receiver_accepted_spans{RATE}))", "accepted"),
            Query(f"sum(rate(otelcol_receiver_refused_spans{RATE}))", "refused"),
            Query(f'sum(rate(otelcol_exporter_sent_spans{{exporter="jaeger_storage_exporter"}}{RATE}))', "stored"),
        ],
        Look(
            units.OpsPerSecond,
            6,
            colours={"refused": "red"},
            links=SPANS,
            empty=NOT_SCRAPED.format("Jaeger"),
        ),
    )


def sampled() -> model.Panel:
    """What tail sampling decided."""
    return lines(
        "Tail sampling",
        "Traces a minute that Jaeger kept (errors, slow ones, extractions, a tenth of the rest) and threw away.",
        [
            Query(
                f"60 * sum by (sampled) (rate(otelcol_processor_tail_sampling_global_count_traces_sampled{RATE}))",
                "kept: {{sampled}}",
            )
        ],
        Look(units.OpsPerMinute, 6, links=SPANS, empty=NOT_SCRAPED.format("Jaeger")),
    )


def evicted() -> model.Panel:
    """Traces that were thrown away undecided."""
    early = "otelcol_processor_tail_sampling_sampling_trace_dropped_too_early"
    return lines(
        "Traces decided too early",
        "Traces a minute that had to leave memory before their decision: num_traces is too small for this load.",
        [Query(f"60 * sum(rate({early}{RATE}))", "too early")],
        Look(units.OpsPerMinute, 6, links=SPANS, empty=NOT_SCRAPED.format("Jaeger")),
    )


def lines_in() -> model.Panel:
    """Log lines that arrive."""
    return lines(
        "Log lines",
        "Log lines a second that Alloy sent, and that Loki took.",
        [
            Query(f"sum(rate(loki_write_sent_entries_total{RATE}))", "sent by Alloy"),
            Query(f"sum(rate(loki_distributor_lines_received_total{RATE}))", "taken by Loki"),
        ],
        Look(units.OpsPerSecond, 12, links=[links.logs("Log lines")], empty=NO_LOGS),
    )


def lines_lost() -> model.Panel:
    """Log lines that do not."""
    lost = f"sum by (reason) (rate(loki_write_dropped_entries_total{RATE}))"
    anything = "sum by (reason) (increase(loki_write_dropped_entries_total[$__range] @ end()))"
    return lines(
        "Lost log lines",
        "Log lines a minute that Alloy gave up, by reason. What people search for may be missing.",
        [Query(f"60 * {lost} and {anything} > 0", "{{reason}}")],
        Look(
            units.CountsPerMinute,
            12,
            links=[links.logs("Log lines")],
            empty="No log line was lost in this time range, or Alloy gives no numbers",
        ),
    )
