"""Panels about the service as its users reach it: probed from outside, through the front and its certificate."""

from __future__ import annotations

from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models import units

from observability.source.dashboards import links
from observability.source.dashboards.names import TELEMETRY
from observability.source.dashboards.panels import Look, Query, lines, number, states

NOT_PROBED = "No probe is made: blackbox_exporter is down, or not scraped here"
DAY = 86400.0
FRONT = (
    links.board("Targets", TELEMETRY),
    links.logs("Log lines of failures", "| level=~`error|warning`"),
)


def outside() -> list[model.Panel]:
    """Build all of them: does it answer, how long does that take, how long is its certificate valid."""
    return [reachable(), phases(), certificates()]


def reachable() -> model.Panel:
    """Whether a probe succeeds."""
    return states(
        "Reached from outside",
        "Whether the service answered a probe within 5 s that takes the way of its users. Unreachable here while its "
        "processes are up: look at the proxy, the network, the certificate.",
        [Query("min by (instance) (probe_success)", "{{instance}}")],
        Look(
            units.Short,
            10,
            words={"1": ("reached", "green"), "0": ("unreachable", "red")},
            links=FRONT,
            empty=NOT_PROBED,
        ),
    )


def phases() -> model.Panel:
    """How long a probe takes, by phase."""
    return lines(
        "Time of a probe",
        "How long the slowest probe took, by phase: to resolve the name, connect, agree on TLS, wait for the answer, "
        "read it.",
        [Query("max by (phase) (probe_http_duration_seconds)", "{{phase}}")],
        Look(units.Seconds, 7, stacked=True, links=FRONT, empty=NOT_PROBED),
    )


def certificates() -> model.Panel:
    """How long certificates are valid."""
    return number(
        "TLS certificates",
        "For how long the first certificate of each address is valid. Within 14 days it warns, within 3 it pages: its "
        "renewal does not work then.",
        [Query("min by (instance) (probe_ssl_earliest_cert_expiry) - time()", "{{instance}}")],
        Look(
            units.Seconds,
            7,
            thresholds={3 * DAY: "orange", 14 * DAY: "green"},
            base="red",
            minimum=None,
            links=FRONT,
            empty="No address with TLS is probed, or blackbox_exporter is down",
        ),
    )
