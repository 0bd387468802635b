"""The same load against a real cluster: what its own autoscaler does with its own pods, watched through kubectl."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, cast

from msgspec import Struct
from msgspec.structs import replace

from loadtest.errors import BadInput
from loadtest.gate import outcome_of
from loadtest.locust_processes import Say, Target
from loadtest.measure.indicators import Slo
from loadtest.running import run
from loadtest.scaling.judging import judge_scaling
from loadtest.scaling.live import Happening, Scaled
from loadtest.scaling.manifest import Deployed, Resources, cpu_millis, memory_bytes
from loadtest.scaling.path import Moment
from loadtest.traffic.plan import Options
from loadtest.verdict import Check, Outcome

CLUSTER_FILE = "hpa-cluster.json"
LOOK_SECONDS = 3.0
KUBECTL_TIMEOUT_SECONDS = 20.0


class ClusterProof(Struct, frozen=True):
    """What a cluster's own autoscaler did under the load."""

    verdict: Outcome
    checks: list[Check]
    deployed: Deployed
    server: str
    """Version of the API server."""
    seen: list[Moment]
    happenings: list[Happening]
    peak: float
    requests: int
    failed_requests: int
    seconds: float
    began: float


class Kubectl:
    """The cluster that KUBECONFIG names."""

    def __init__(self, namespace: str) -> None:
        program = os.environ.get("KUBECTL_BIN") or shutil.which("kubectl")
        if program is None:
            raise BadInput("kubectl: is not installed: install it, or name it in KUBECTL_BIN")
        if not os.environ.get("KUBECONFIG"):
            raise BadInput("KUBECONFIG: is not set: name the file that says which cluster to ask")
        self._command = [program, "--namespace", namespace]

    def get(self, *arguments: str) -> dict[str, Any]:
        """Ask for objects as JSON. Raises BadInput with what kubectl said."""
        command = [*self._command, *arguments, "-o", "json"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=KUBECTL_TIMEOUT_SECONDS, check=False)
        except subprocess.TimeoutExpired:
            raise BadInput(f"kubectl {' '.join(arguments)}: no answer in {KUBECTL_TIMEOUT_SECONDS:.0f} s") from None
        except OSError as error:
            raise BadInput(f"kubectl: {command[0]} cannot be run: {error.strerror}") from None
        if done.returncode:
            raise BadInput(f"kubectl {' '.join(arguments)}: {' '.join(done.stderr.split())[:300]}")
        try:
            return cast("dict[str, Any]", json.loads(done.stdout))
        except ValueError as error:
            raise BadInput(f"kubectl {' '.join(arguments)}: its answer is no JSON: {error}") from None


class Watcher:
    """Looks at the autoscaler, its Deployment and its pods every three seconds, in a thread."""

    def __init__(self, kubectl: Kubectl, deployed: Deployed, say: Say) -> None:
        self._kubectl = kubectl
        self._deployed = deployed
        self._say = say
        self._began = time.time()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._known: dict[str, str] = {}
        self.looks: list[Moment] = []
        self.happenings: list[Happening] = []
        self.failures = 0

    def __enter__(self) -> Watcher:  # noqa: PYI034 - is not made to be subclassed
        self.look()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(LOOK_SECONDS):
            try:
                self.look()
            except BadInput:
                self.failures += 1

    def look(self) -> None:
        """Look once. Raises BadInput."""
        # One call for everything: each starts a program, on a machine that may also run what is measured.
        found = self._kubectl.get("get", "hpa,deployments,pods")["items"]
        autoscaler, deployment = self._named(found, "HorizontalPodAutoscaler"), self._named(found, "Deployment")
        labels = deployment["spec"]["selector"]["matchLabels"].items()
        pods = [one for one in found if one["kind"] == "Pod" and labels <= one["metadata"].get("labels", {}).items()]
        status = autoscaler.get("status", {})
        wanted = int(deployment["spec"]["replicas"])
        before = self.looks[-1].desired if self.looks else wanted
        uses = {one["type"]: one for one in status.get("currentMetrics") or () if one["type"] != "Resource"}
        resources = {
            one["resource"]["name"]: one["resource"]["current"]
            for one in status.get("currentMetrics") or ()
            if one["type"] == "Resource"
        }
        held = uses.get("Pods", {}).get("pods", {}).get("current", {}).get("averageValue", "0")
        moment = Moment(
            at=round(time.time(), 2),
            current=before,
            desired=wanted,
            ready=sum(_ready(pod) for pod in pods),
            cpu_share=resources.get("cpu", {}).get("averageUtilization", 0) / 100,
            memory_share=resources.get("memory", {}).get("averageUtilization", 0) / 100,
            in_flight=cpu_millis(held) / 1000,
            requests_per_pod=0.0,
        )
        self.looks.append(moment)
        if before != wanted:
            self._note(f"{before} -> {wanted} pods")
            self._say(f"{before} -> {wanted} pods (CPU {100 * moment.cpu_share:.0f} % of the request)")
        self._note_pods(pods)

    def _named(self, objects: Sequence[dict[str, Any]], kind: str) -> dict[str, Any]:
        for one in objects:
            if one["kind"] == kind and one["metadata"]["name"] == self._deployed.name:
                return one
        raise BadInput(f"kubectl: there is no {kind} {self._deployed.name} any more")

    def _note_pods(self, pods: Sequence[dict[str, Any]]) -> None:
        states = {str(pod["metadata"]["name"]): _state(pod) for pod in pods}
        for name, state in states.items():
            if self._known.get(name) != state:
                self._note(f"{name} {state}")
        for name in self._known.keys() - states.keys():
            self._note(f"{name} gone")
        self._known = states

    def _note(self, what: str) -> None:
        self.happenings.append(Happening(round(time.time(), 2), what))


def _ready(pod: dict[str, Any]) -> bool:
    conditions = pod.get("status", {}).get("conditions", ())
    leaving = "deletionTimestamp" in pod["metadata"]
    return not leaving and any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def _state(pod: dict[str, Any]) -> str:
    if "deletionTimestamp" in pod["metadata"]:
        return "leaves"
    return "ready" if _ready(pod) else "starts"


def read_cluster(kubectl: Kubectl, name: str) -> Deployed:
    """Read what the cluster runs. Raises BadInput."""
    deployment = kubectl.get("get", "deployment", name)
    autoscaler = kubectl.get("get", "hpa", name)
    try:
        pod = deployment["spec"]["template"]["spec"]
        resources = pod["containers"][0]["resources"]
        asked, most = resources["requests"], resources["limits"]
        return Deployed(
            name=name,
            component=str(deployment["metadata"]["labels"].get("app.kubernetes.io/component", "")),
            resources=Resources(
                cpu_millis(asked["cpu"]),
                cpu_millis(most["cpu"]),
                memory_bytes(asked["memory"]),
                memory_bytes(most["memory"]),
            ),
            pre_stop_seconds=0.0,
            grace_seconds=float(pod["terminationGracePeriodSeconds"]),
            settings={},
            autoscaler=_spec_of(autoscaler["spec"]),
        )
    except KeyError as error:
        raise BadInput(
            f"deployment {name}: lacks {error}: requests and limits are what a target is measured in"
        ) from None


def _spec_of(spec: dict[str, Any]) -> dict[str, Any]:
    """Leave out what the API server added that the model does not read."""
    behavior = {
        way: {field: value for field, value in rules.items() if field != "tolerance"}
        for way, rules in spec.get("behavior", {}).items()
    }
    return {**spec, "behavior": behavior} if behavior else spec


def prove_in_cluster(
    target: Target,
    namespace: str,
    name: str,
    options: Options,
    slos: Sequence[Slo],
    folder: Path,
    *,
    say: Say,
    min_scale_ins: int,
) -> ClusterProof:
    """Send the load, watch what the cluster does, and judge it. Raises BadInput and NotMeasured."""
    kubectl = Kubectl(namespace)
    deployed = read_cluster(kubectl, name)
    server = str(kubectl.get("version").get("serverVersion", {}).get("gitVersion", "unknown"))
    with Watcher(kubectl, deployed, say) as watcher:
        done = run(target, options, slos, folder, say)
        watcher.look()
    path = [_since(one, done.began) for one in watcher.looks]
    scaled = Scaled(path, [], done, sum(done.failures.values()), 0, 0.0)
    checks = judge_scaling(deployed, scaled, min_scale_ins)
    return ClusterProof(
        verdict=outcome_of(checks),
        checks=checks,
        deployed=deployed,
        server=server,
        seen=path,
        happenings=[Happening(round(one.at - done.began, 2), one.what) for one in watcher.happenings],
        peak=max(stage.rate for stage in done.stages),
        requests=sum(one.count for stage in done.stages for one in stage.requests),
        failed_requests=scaled.failed_requests,
        seconds=round(done.ended - done.began, 1),
        began=done.began,
    )


def _since(moment: Moment, began: float) -> Moment:
    return replace(moment, at=round(moment.at - began, 2))


def local_time(moment: float) -> str:
    """Write a moment as an ISO time with its zone."""
    return datetime.fromtimestamp(moment).astimezone().isoformat(timespec="seconds")
