"""The spec of a HorizontalPodAutoscaler (autoscaling/v2), checked and defaulted as the API server of 1.34 does."""

from __future__ import annotations

from typing import Annotated, Any, Literal, cast

from msgspec import Meta, Struct

from loadtest.errors import BadInput
from loadtest.hpa.forms import read_form
from loadtest.hpa.quantity import Quantity

SECOND = 1_000_000_000
"""Nanoseconds: the unit of every time in this package."""

MAX_INT32 = 2**31 - 1
DEFAULT_CPU_UTILIZATION = 80
"""Per cent of the request: the metric of a spec that names none."""

SOURCES = {"Resource": "resource", "Pods": "pods", "External": "external"}
UNSUPPORTED = ("Object", "ContainerResource")

Kind = Literal["Resource", "Pods", "External"]
TargetType = Literal["Utilization", "AverageValue", "Value"]
PolicyType = Literal["Pods", "Percent"]
Select = Literal["Max", "Min", "Disabled"]
Replicas = Annotated[int, Meta(ge=1, le=MAX_INT32)]


class Metric(Struct, frozen=True):
    """One metric and its target: per cent of the request (Utilization) or thousandths (AverageValue, Value)."""

    kind: Kind
    name: str
    target: TargetType
    amount: int

    def describe(self) -> str:
        """Name the metric as the status does, which says the target of a resource only."""
        return f"{self.kind} metric {self.name}" + (f" ({self.target})" if self.kind == "Resource" else "")


class Policy(Struct, frozen=True):
    """At most so many pods, or per cent of the pods, within a period in nanoseconds."""

    type: PolicyType
    value: int
    period: int


class Rules(Struct, frozen=True):
    """How one direction is slowed; a window of None is the controller's own."""

    select: Select
    window: int | None
    policies: tuple[Policy, ...]


class Behavior(Struct, frozen=True):
    """The rules upward and downward."""

    up: Rules
    down: Rules


class Spec(Struct, frozen=True):
    """What the controller needs of the spec; without behavior other limits hold than with an empty one."""

    minimum: int
    maximum: int
    metrics: tuple[Metric, ...]
    behavior: Behavior | None = None


DEFAULT_UP = Rules("Max", 0, (Policy("Pods", 4, 15 * SECOND), Policy("Percent", 100, 15 * SECOND)))
DEFAULT_DOWN = Rules("Max", None, (Policy("Percent", 100, 15 * SECOND),))


class _Form(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """A part of the JSON form: a misspelt field is an error, as in `kubectl apply`."""


class _Target(_Form, frozen=True):
    """MetricTarget."""

    type: TargetType
    value: Quantity | None = None
    average_value: Quantity | None = None
    average_utilization: Replicas | None = None

    def __post_init__(self) -> None:
        for name, amount in (("value", self.value), ("averageValue", self.average_value)):
            if amount is not None and amount <= 0:
                raise ValueError(f"{name} must be above 0")

    def one_of(self, **allowed: int | None) -> tuple[TargetType, int]:
        """Return the only target that is set of those that the source allows."""
        given = [(name, amount) for name, amount in allowed.items() if amount is not None]
        if len(given) != 1:
            wanted = ", ".join({"Utilization": "averageUtilization"}.get(n, n[0].lower() + n[1:]) for n in allowed)
            raise ValueError(f"the target needs exactly one of: {wanted}")
        name, amount = given[0]
        return cast("TargetType", name), amount


class _Resource(_Form, frozen=True):
    """ResourceMetricSource."""

    name: Literal["cpu", "memory"]
    target: _Target

    def read(self) -> Metric:
        """Return the metric with its only target."""
        target = self.target
        chosen = target.one_of(Utilization=target.average_utilization, AverageValue=target.average_value)
        return Metric("Resource", self.name, *chosen)


class _Identifier(_Form, frozen=True):
    """MetricIdentifier; numbers are looked up by the name alone."""

    name: Annotated[str, Meta(min_length=1)]
    selector: dict[str, Any] | None = None


class _Pods(_Form, frozen=True):
    """PodsMetricSource."""

    metric: _Identifier
    target: _Target

    def read(self) -> Metric:
        """Return the metric with its only target."""
        return Metric("Pods", self.metric.name, *self.target.one_of(AverageValue=self.target.average_value))


class _External(_Form, frozen=True):
    """ExternalMetricSource."""

    metric: _Identifier
    target: _Target

    def read(self) -> Metric:
        """Return the metric with its only target."""
        target = self.target
        chosen = target.one_of(Value=target.value, AverageValue=target.average_value)
        return Metric("External", self.metric.name, *chosen)


class _Metric(_Form, frozen=True):
    """MetricSpec."""

    type: str
    resource: _Resource | None = None
    pods: _Pods | None = None
    external: _External | None = None
    object: Any = None
    container_resource: Any = None

    def __post_init__(self) -> None:
        if self.type in UNSUPPORTED:
            raise ValueError(f"metric type {self.type} is not supported by this model: use Resource, Pods or External")
        if self.type not in SOURCES:
            raise ValueError(f"metric type {self.type!r} is unknown: use Resource, Pods or External")
        given = [
            name for name in (*SOURCES.values(), "object", "container_resource") if getattr(self, name) is not None
        ]
        if given != [SOURCES[self.type]]:
            raise ValueError(f"a metric of type {self.type} needs the field {SOURCES[self.type]} and no other source")
        self.read()

    def read(self) -> Metric:
        """Return the metric of the source that the type names."""
        source = cast("_Resource | _Pods | _External", getattr(self, SOURCES[self.type]))
        return source.read()


class _Policy(_Form, frozen=True):
    """HPAScalingPolicy."""

    type: PolicyType
    value: Replicas
    period_seconds: Annotated[int, Meta(ge=1, le=1800)]


class _Rules(_Form, frozen=True):
    """HPAScalingRules."""

    stabilization_window_seconds: Annotated[int, Meta(ge=0, le=3600)] | None = None
    select_policy: Select | None = None
    policies: Annotated[list[_Policy], Meta(min_length=1)] | None = None
    tolerance: Any = None

    def __post_init__(self) -> None:
        if self.tolerance is not None:
            raise ValueError("tolerance is off in Kubernetes 1.34 (HPAConfigurableTolerance): remove it")

    def over(self, default: Rules) -> Rules:
        """Return the defaults with what is set here in their place."""
        window = self.stabilization_window_seconds
        policies = self.policies
        return Rules(
            select=self.select_policy or default.select,
            window=default.window if window is None else window * SECOND,
            policies=default.policies
            if policies is None
            else tuple(Policy(p.type, p.value, p.period_seconds * SECOND) for p in policies),
        )


class _Behavior(_Form, frozen=True):
    """HorizontalPodAutoscalerBehavior."""

    scale_up: _Rules | None = None
    scale_down: _Rules | None = None

    def read(self) -> Behavior:
        """Return both rules with their defaults."""
        return Behavior(
            up=(self.scale_up or _Rules()).over(DEFAULT_UP), down=(self.scale_down or _Rules()).over(DEFAULT_DOWN)
        )


class SpecForm(_Form, frozen=True):
    """HorizontalPodAutoscalerSpec as JSON or YAML has it."""

    max_replicas: Replicas
    min_replicas: Replicas | None = None
    metrics: list[_Metric] | None = None
    behavior: _Behavior | None = None
    scale_target_ref: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        if (self.min_replicas or 1) > self.max_replicas:
            raise ValueError(
                f"minReplicas {self.min_replicas} is above maxReplicas {self.max_replicas}: raise the latter"
            )

    def read(self) -> Spec:
        """Return the spec with the API server's defaults."""
        default = Metric("Resource", "cpu", "Utilization", DEFAULT_CPU_UTILIZATION)
        return Spec(
            minimum=self.min_replicas or 1,
            maximum=self.max_replicas,
            metrics=tuple(metric.read() for metric in self.metrics or ()) or (default,),
            behavior=self.behavior.read() if self.behavior else None,
        )


class _Manifest(Struct, frozen=True):
    """A manifest, reduced to its spec so that messages name the path from its root."""

    spec: SpecForm


def read_spec(document: object, where: str = "") -> Spec:
    """Return the spec of a parsed HorizontalPodAutoscaler (autoscaling/v2), whole or its `spec` alone.

    `where` goes in front of the message of BadInput.
    """
    whole = cast("dict[str, object]", document) if isinstance(document, dict) else {}
    if "kind" in whole:
        found = (whole.get("apiVersion"), whole["kind"])
        if found != ("autoscaling/v2", "HorizontalPodAutoscaler"):
            raise BadInput(
                f"{where}{found[1]} of {found[0]} is no HorizontalPodAutoscaler of autoscaling/v2: give that"
            )
        return read_form({"spec": whole.get("spec")}, _Manifest, where).spec.read()
    return read_form(cast("object", document), SpecForm, where).read()
