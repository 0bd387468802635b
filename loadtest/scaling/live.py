"""Real processes that scale: limited pods behind a balancer, started and drained as the model decides, under load."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

from loadtest.locust_processes import Say, Target
from loadtest.measure.indicators import Slo
from loadtest.measure.watch import FILE_PREFIX
from loadtest.results import Run
from loadtest.running import run
from loadtest.scaling.autoscaler import Autoscaler, Flags, Seen
from loadtest.scaling.balancer import Balancer, running_balancer
from loadtest.scaling.limited import Used
from loadtest.scaling.manifest import Deployed
from loadtest.scaling.path import Moment
from loadtest.scaling.pod import PROBE_SECONDS, PodProcess, await_ready
from loadtest.scaling.stand import Stand
from loadtest.traffic.plan import PROGRESS_FILE, Options, Progress

START_TIMEOUT_SECONDS = 120.0
START_LOOK_SECONDS = 0.2
ENDPOINTS_SECONDS = 1.0
"""How long the balancer goes on sending to a pod that leaves: the time in which a cluster's proxies hear of it."""


class Happening(Struct, frozen=True):
    """Something that happened to a pod."""

    at: float
    """Seconds since the run began."""
    what: str


class Scaled(Struct, frozen=True):
    """What was seen of a scaling run, on processes of this machine or in a cluster."""

    path: list[Moment]
    happenings: list[Happening]
    run: Run
    failed_requests: int
    """Requests without the answer that the test expects."""
    forced: int
    """Pods that did not end within their grace period."""
    start_seconds: float
    """Median time from a pod's creation to its readiness."""


def arrivals_of(progress: Path) -> int:
    """Give the clients that have come, by the file that the generator writes."""
    try:
        return msgspec.json.decode(progress.read_bytes(), type=Progress).arrivals
    except (OSError, msgspec.DecodeError):
        return 0


def to_remove(pods: Sequence[PodProcess], desired: int) -> list[PodProcess]:
    """Give the pods that a ReplicaSet takes away: those that are not ready, then the youngest."""
    return sorted(pods, key=lambda pod: (pod.ready, -pod.created))[: max(0, len(pods) - desired)]


class Pods:
    """The pods of one Deployment."""

    def __init__(
        self, stand: Stand, deployed: Deployed, flags: Flags, balancer: Balancer, *, say: Say, progress: Path
    ) -> None:
        self._stand = stand
        self._deployed = deployed
        self._flags = flags
        self._balancer = balancer
        self._say = say
        self._progress = progress
        self._autoscaler = Autoscaler(deployed, flags)
        self._pods: list[PodProcess] = []
        self._left: list[tuple[PodProcess, threading.Thread]] = []
        self._samples: dict[str, tuple[float, Used]] = {}
        self._cores: dict[str, float] = {}
        self._number = 0
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._probe, self._scale)]
        self.targets = stand.folder / "targets"
        self.began = time.monotonic()
        self.path: list[Moment] = []
        self.noted: list[tuple[float, str]] = []
        """Moments by time.monotonic(), and what happened."""

    def start(self) -> None:
        """Start the least number of pods and wait until they are ready."""
        for _ in range(self._autoscaler.spec.minimum):
            self._add()
        for pod in self._pods:
            if not await_ready(pod, START_TIMEOUT_SECONDS):
                raise RuntimeError(f"{pod.name} did not become ready: {pod.tail()}")
        self._route()
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """End everything, those that drain in their own time."""
        self._over.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join()
        for _, thread in self._left:
            thread.join()
        for pod in self._pods:
            pod.kill()

    def _add(self) -> None:
        self._number += 1
        pod = PodProcess(self._stand, self._deployed, self._number)
        self._pods.append(pod)
        self._note(f"{pod.name} created")

    def _note(self, what: str) -> None:
        self.noted.append((time.monotonic(), what))

    # -- the kubelet's and the proxies' part -----------------------------------------------------------------------

    def _probe(self) -> None:
        while not self._over.wait(PROBE_SECONDS):
            with self._lock:
                pods = list(self._pods)
            for pod in pods:
                was = pod.ready
                pod.probe()
                if pod.ready != was:
                    self._note(f"{pod.name} {'ready' if pod.ready else 'not ready'}")
            self._route()

    def _route(self) -> None:
        with self._lock:
            ready = {pod.name: f"{pod.address}:8000" for pod in self._pods if pod.ready and not pod.leaving}
            urls = [pod.metrics for pod in self._pods] + [pod.metrics for pod, _ in self._left if pod.alive()]
        self._balancer.follow(ready)
        self.targets.write_text("\n".join(urls), encoding="utf-8")

    # -- the autoscaler's part -------------------------------------------------------------------------------------

    def _scale(self) -> None:
        """Sync from the first client's arrival on: what prepares the data is not the planned traffic."""
        while not arrivals_of(self._progress):
            if self._over.wait(START_LOOK_SECONDS):
                return
        self.began = due = time.monotonic()
        while True:
            due += self._flags.sync
            if self._over.wait(max(0.0, due - time.monotonic())):
                return
            self._sync()

    def _sync(self) -> None:
        """Sample every pod, decide, and do what was decided."""
        now = time.monotonic()
        with self._lock:
            pods = list(self._pods)
        seen = [self._seen(pod, now) for pod in pods]
        outcome = self._autoscaler.decide(now, len(pods), seen)
        self._remember(now, pods, seen, outcome.desired, outcome.why or "")
        if outcome.desired > len(pods):
            with self._lock:
                for _ in range(outcome.desired - len(pods)):
                    self._add()
        for pod in to_remove(pods, outcome.desired):
            self._remove(pod)

    def _seen(self, pod: PodProcess, now: float) -> Seen:
        used = pod.used() if pod.alive() else None
        before = self._samples.get(pod.name)
        if used is not None and before is not None:
            self._cores[pod.name] = (used.cpu_seconds - before[1].cpu_seconds) / (now - before[0])
        if used is not None:
            self._samples[pod.name] = (now, used)
        cores = self._cores.get(pod.name)
        return Seen(
            created=pod.created,
            ready_at=pod.ready_at,
            ready=pod.ready,
            cpu_cores=cores,
            memory=float(used.memory) if used is not None and cores is not None else None,
            in_flight=pod.in_flight() if pod.ready else None,
        )

    def _remember(self, now: float, pods: Sequence[PodProcess], seen: Sequence[Seen], desired: int, why: str) -> None:
        resources = self._deployed.resources
        cores = [one.cpu_cores for one in seen if one.cpu_cores is not None]
        memory = [one.memory for one in seen if one.memory is not None]
        held = [one.in_flight for one in seen if one.in_flight is not None]
        moment = Moment(
            at=round(now - self.began, 2),
            current=len(pods),
            desired=desired,
            ready=sum(pod.ready for pod in pods),
            cpu_share=round(1000 * sum(cores) / max(1, len(cores)) / resources.request_cpu_m, 4),
            memory_share=round(sum(memory) / max(1, len(memory)) / resources.request_memory, 4),
            in_flight=round(sum(held) / max(1, len(held)), 2),
            requests_per_pod=0.0,
            why=why,
        )
        self.path.append(moment)
        if desired != len(pods):
            self._say(
                f"{len(pods)} -> {desired} pods (CPU {100 * moment.cpu_share:.0f} % of the request, "
                f"memory {100 * moment.memory_share:.0f} %, {moment.in_flight:.1f} in flight)"
            )

    def _remove(self, pod: PodProcess) -> None:
        self._note(f"{pod.name} leaves")
        thread = pod.leave()
        with self._lock:
            self._left.append((pod, thread))
        timer = threading.Timer(ENDPOINTS_SECONDS, self._forget, [pod])
        timer.daemon = True
        timer.start()

    def _forget(self, pod: PodProcess) -> None:
        with self._lock:
            self._pods = [one for one in self._pods if one is not pod]
        self._route()

    @property
    def forced(self) -> int:
        """Pods that had to be killed."""
        return sum(pod.forced for pod, _ in self._left)

    def start_seconds(self) -> float:
        """Give the median time from creation to readiness of the pods that were added under load."""
        added = [
            pod for pod in [*self._pods, *(pod for pod, _ in self._left)] if pod.ready_at and pod.created > self.began
        ]
        times = sorted((pod.ready_at or 0.0) - pod.created for pod in added)
        return times[len(times) // 2] if times else 0.0


def scale_under_load(
    stand: Stand, deployed: Deployed, flags: Flags, options: Options, slos: Sequence[Slo], folder: Path, *, say: Say
) -> Scaled:
    """Run the load against pods that the model scales. Raises BadInput and NotMeasured as a run does."""
    with running_balancer(stand.folder, 2 * deployed.spec().maximum) as balancer:
        progress = folder / PROGRESS_FILE
        progress.unlink(missing_ok=True)
        pods = Pods(stand, deployed, flags, balancer, say=say, progress=progress)
        try:
            pods.start()
            target = Target(balancer.host, stand.key, (f"{FILE_PREFIX}{pods.targets}",))
            done = run(target, options, slos, folder, say)
        finally:
            pods.close()
    length = done.stages[-1].ended - done.began
    return Scaled(
        path=[moment for moment in pods.path if moment.at <= length],
        happenings=[Happening(round(at - pods.began, 2), what) for at, what in pods.noted if at >= pods.began],
        run=done,
        failed_requests=sum(done.failures.values()),
        forced=pods.forced,
        start_seconds=pods.start_seconds(),
    )
