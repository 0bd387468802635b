"""Limits of a process, how busy and how fast the machine is, and the objectives counted from metrics and clients."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from loadtest.errors import BadInput
from loadtest.measure.cgroup import Throttling, throttling_of
from loadtest.measure.indicators import SLO_FILE, load_slos, metrics_of, of_clients, of_service
from loadtest.measure.machine import MachineWatch, calibrate, cpu_pressure, listeners
from loadtest.measure.selector import parse_exposition
from loadtest.results import Requests, Stage
from loadtest.running import _throttled

# -- control groups ----------------------------------------------------------------------------------------------


def files(folder: Path, **contents: str) -> None:
    """Write files; two underscores are a dot."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        (folder / name.replace("__", ".")).write_text(content)


@pytest.mark.parametrize(("quota", "limit"), [("150000", 1.5), ("-1", None)])
def test_a_cgroup_of_version_1(tmp_path: Path, quota: str, limit: float | None) -> None:
    """The CPU controller's folder says periods, stops and the limit; -1 is none."""
    files(tmp_path / "proc/7", cgroup="5:memory:/m\n1:cpuacct,cpu:/pods/a\n0::/\n")
    stat = "nr_periods 40\nnr_throttled 10\nthrottled_time 5\n"
    files(tmp_path / "cg/cpu/pods/a", cpu__stat=stat, cpu__cfs_quota_us=quota, cpu__cfs_period_us="100000\n")
    assert throttling_of(7, tmp_path / "proc", tmp_path / "cg") == Throttling(40, 10, limit)


@pytest.mark.parametrize(("written", "limit"), [("15000 100000\n", 0.15), ("max 100000\n", None)])
def test_a_cgroup_of_version_2(tmp_path: Path, written: str, limit: float | None) -> None:
    """The one hierarchy says the same; `max` is no limit, and counts come with the controller alone."""
    files(tmp_path / "proc/7", cgroup="0::/pods/a\n")
    files(tmp_path / "cg", cgroup__controllers="cpu memory\n")
    files(tmp_path / "cg/pods/a", cpu__stat="usage_usec 5\nnr_periods 4\nnr_throttled 3\n", cpu__max=written)
    assert throttling_of(7, tmp_path / "proc", tmp_path / "cg") == Throttling(4, 3, limit)
    files(tmp_path / "cg/pods/a", cpu__stat="usage_usec 5\n")
    assert throttling_of(7, tmp_path / "proc", tmp_path / "cg") == Throttling(0, 0, limit)


@pytest.mark.parametrize("listed", [None, "", "nonsense\n", "5:memory:/m\n", "1:cpu:/not/there\n", "0::/\n"])
def test_a_cgroup_that_cannot_be_read(tmp_path: Path, listed: str | None) -> None:
    """A process without a readable control group has no throttling, and no error."""
    if listed is not None:
        files(tmp_path / "proc/7", cgroup=listed)
    assert throttling_of(7, tmp_path / "proc", tmp_path / "cg") is None


@pytest.mark.parametrize("broken", ["nr_periods\n", "nr_periods many\n", "", "nr_throttled 1\n"])
def test_a_broken_cgroup_file(tmp_path: Path, broken: str) -> None:
    """A file of another form than the kernel's is as good as none."""
    files(tmp_path / "proc/7", cgroup="1:cpu:/\n")
    files(tmp_path / "cg/cpu", cpu__stat=broken, cpu__cfs_quota_us="1", cpu__cfs_period_us="1")
    assert throttling_of(7, tmp_path / "proc", tmp_path / "cg") is None


def test_the_share_of_throttled_periods() -> None:
    """The process that was stopped most decides; one without a limit, or that is gone, does not."""
    before = [Throttling(100, 50, 0.5), Throttling(0, 0, None), None, Throttling(10, 0, 2.0), Throttling(5, 5, 1.0)]
    after = [Throttling(200, 75, 0.5), Throttling(9, 9, None), Throttling(1, 1, 1.0), Throttling(30, 10, 2.0), None]
    assert _throttled(before, after) == (0.5, 2.0)
    assert _throttled([], []) == (None, None)


# -- the machine -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "pressure"),
    [
        (
            "some avg10=36.87 avg60=26.13 avg300=28.10 total=640\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n",
            36.87,
        ),
        ("some avg10=0.00 avg60=0.00 avg300=0.00 total=0\n", 0),
        ("", None),
        ("some\n", None),
        ("some avg60=1\n", None),
        ("some avg10=x\n", None),
        ("some avg10\n", None),
    ],
)
def test_pressure(tmp_path: Path, content: str, pressure: float | None) -> None:
    """The share of time in which something waited is the kernel's avg10; a file of another form says nothing."""
    (tmp_path / "cpu").write_text(content)
    assert cpu_pressure(tmp_path / "cpu") == pressure


def test_no_pressure_file(tmp_path: Path) -> None:
    """A kernel without pressure files is no error."""
    assert cpu_pressure(tmp_path / "none") is None
    assert cpu_pressure(tmp_path) is None


def test_calibration() -> None:
    """The fixed piece of work takes a measurable CPU time, by the clock of the thread that does it."""
    assert 0.001 < calibrate() < 10


SPIN = """
import sys, time
open("/proc/self/comm", "w").write(sys.argv[1])
end = time.monotonic() + 60
print(flush=True)
while time.monotonic() < end: pass
"""


@pytest.mark.parametrize("ours", [True, False])
def test_foreign_work_is_not_our_own(ours: bool) -> None:  # noqa: FBT001
    """What a process of the service uses is not foreign; the same work of another one is, and is named."""
    name = f"spins-{os.getpid()}"  # the two cases may run at the same time
    command = [sys.executable, "-c", SPIN, name]
    detached = ["sh", "-c", 'exec "$@" & echo $!', "sh"]
    with subprocess.Popen([*detached, *command], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())  # its parent has ended: it is no child of this process
        parent.stdout.readline()
        parent.wait()
        try:
            with MachineWatch([pid] if ours else []) as watch:
                time.sleep(2.5)
        finally:
            subprocess.run(["kill", str(pid)], check=True)
    spun = watch._foreign[name]
    assert (spun > 0.1) is not ours
    found = watch.result(0.25)
    assert found.generator_cores == 0.25
    assert found.foreign_cores >= 0
    assert found.cores >= 1


def test_listeners() -> None:
    """The process that listens on a port is found; nothing listens on port 1."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        assert listeners(listener.getsockname()[1]) == [os.getpid()]
    assert listeners(1) == []


# -- objectives --------------------------------------------------------------------------------------------------

SCRAPE = """
api_requests_total{method="GET",endpoint="/api/v1/extractions",status="200"} 900
api_requests_total{method="GET",endpoint="/api/v1/extractions",status="500"} 4
api_requests_total{method="POST",endpoint="/api/v1/extract-features",status="503"} 1
api_requests_total{method="GET",endpoint="unmatched",status="500"} 1000
api_requests_total{method="GET",endpoint="/health/ready",status="503"} 1000
api_requests_total{method="GET",endpoint="/metrics",status="500"} 1000
api_request_duration_seconds_bucket{method="GET",endpoint="/api/v1/extractions",le="0.25"} 890
api_request_duration_seconds_bucket{method="GET",endpoint="/api/v1/extractions",le="+Inf"} 904
api_request_duration_seconds_count{method="GET",endpoint="/api/v1/extractions"} 904
api_request_duration_seconds_bucket{method="GET",endpoint="/api/v1/extraction/{extraction_id}/events",le="0.25"} 0
api_request_duration_seconds_count{method="GET",endpoint="/api/v1/extraction/{extraction_id}/events"} 500
api_request_duration_seconds_bucket{method="POST",endpoint="/api/v1/extract-features",le="10.0"} 8
api_request_duration_seconds_bucket{method="POST",endpoint="/api/v1/extract-features",le="+Inf"} 9
api_request_duration_seconds_count{method="POST",endpoint="/api/v1/extract-features"} 9
feature_extractions_total{status="completed"} 97
feature_extractions_total{status="failed"} 2
feature_extractions_total{status="rejected"} 1
extraction_start_delay_seconds_bucket{le="30.0"} 99
extraction_start_delay_seconds_bucket{le="+Inf"} 100
extraction_start_delay_seconds_count 100
"""
EVENTS = {
    "api-availability": (900, 905),
    "api-latency-read": (890, 904),
    "api-latency-extract": (8, 9),
    "extraction-success": (98, 100),
    "extraction-freshness": (99, 100),
}


def test_every_objective_is_counted_by_the_service() -> None:
    """Each objective of slo.yaml has the good and total events that its selectors give by hand."""
    slos = load_slos()
    assert [slo.name for slo in slos] == [one["name"] for one in yaml.safe_load(SLO_FILE.read_text())["slos"]]
    values = parse_exposition(SCRAPE, metrics_of(slos))
    found = {one.slo: (one.good, one.total) for one in of_service(slos, values)}
    assert found == EVENTS


def test_nothing_counted_is_no_event() -> None:
    """A service without any of the metrics has no events, good or bad."""
    assert {(one.good, one.total) for one in of_service(load_slos(), {})} == {(0, 0)}


def stage(name: str, *requests: Requests) -> Stage:
    """A stage of these requests."""
    return Stage(name, 0, 1, 1, 1, 1, 1, 1, 0, 0, 0, list(requests))


def test_clients_count_what_they_see() -> None:
    """Statuses and durations of clients give the objectives that they can see, stage by stage and together."""
    read = "/api/v1/extractions"
    first = stage("one", Requests("GET", read, "200", 10, {"12": 7, "250": 2, "251": 1}))
    second = stage(
        "two",
        Requests("GET", read, "200", 4, {"1": 4}),
        Requests("GET", read, "599", 1, {"60000": 1}),
        Requests("GET", "unmatched", "404", 5, {"1": 5}),
        Requests("POST", "/api/v1/extract-features", "202", 3, {"10000": 2, "1e+04": 0, "10100": 1}),
    )
    found = {(one.slo, one.stage): (one.good, one.total) for one in of_clients(load_slos(), [first, second])}
    assert found == {
        ("api-availability", "one"): (10, 10),
        ("api-availability", "two"): (7, 8),
        ("api-availability", ""): (17, 18),
        ("api-latency-read", "one"): (9, 10),
        ("api-latency-read", "two"): (4, 5),
        ("api-latency-read", ""): (13, 15),
        ("api-latency-extract", "one"): (0, 0),
        ("api-latency-extract", "two"): (2, 3),
        ("api-latency-extract", ""): (2, 3),
    }


def slo(**changes: Any) -> dict[str, Any]:
    """A file with one objective."""
    one = {"name": "n", "objective": 99, "good": "g", "sli": {"total": "a_total", "bad": "b_total"}, **changes}
    return {"slos": [{name: value for name, value in one.items() if value is not ...}]}


@pytest.mark.parametrize("written", ["0.25", "0.250", "2.5e-01"])
def test_bounds_are_numbers(tmp_path: Path, written: str) -> None:
    """A bucket is found however the exporter writes its bound."""
    (tmp_path / "slo.yaml").write_text(yaml.safe_dump(slo(sli={"histogram": "h", "within": 0.25})))
    slos = load_slos(tmp_path / "slo.yaml")
    values = parse_exposition(f'h_bucket{{le="{written}"}} 3\nh_bucket{{le="+Inf"}} 4\nh_count 4\n', ["h"])
    [found] = of_service(slos, values)
    assert (found.good, found.total) == (3, 4)


def test_a_bound_without_a_bucket(tmp_path: Path) -> None:
    """An objective whose bound is no bucket is bad input that names the bounds, not a service that is always slow."""
    (tmp_path / "slo.yaml").write_text(yaml.safe_dump(slo(sli={"histogram": "h", "within": 0.3})))
    slos = load_slos(tmp_path / "slo.yaml")
    values = parse_exposition('h_bucket{le="0.25"} 3\nh_bucket{le="+Inf"} 4\nh_count 4\n', ["h"])
    with pytest.raises(BadInput, match=r"h has no bucket of 0\.3 s: `within` is one of 0\.25, inf"):
        of_service(slos, values)


@pytest.mark.parametrize(
    ("document", "named"),
    [
        (slo(name=...), "name"),
        (slo(objective=...), "objective"),
        (slo(good=...), "good"),
        (slo(sli=...), "sli"),
        (slo(objective=100), "objective"),
        (slo(objective=0), "objective"),
        (slo(objective=-1), "objective"),
        (slo(objective="high"), "objective"),
        (slo(sli={}), "sli takes"),
        (slo(sli={"total": "a"}), "sli takes"),
        (slo(sli={"bad": "a"}), "sli takes"),
        (slo(sli={"histogram": "a"}), "sli takes"),
        (slo(sli={"within": 1}), "sli takes"),
        (slo(sli={"total": "a", "bad": "b", "within": 1}), "sli takes"),
        (slo(sli={"total": "a", "histogram": "b", "within": 1}), "sli takes"),
        (slo(sli={"histogram": "a", "within": 0}), "within"),
        (slo(sli={"total": "rate(a[5m])", "bad": "b"}), "n: 'rate(a[5m])' is not a selector"),
        (slo(sli={"total": "", "bad": "b"}), "n: '' is not a selector"),
        (slo(sli={"total": "a", "bad": 'b{c=~"("}'}), "not a regular expression"),
        ({"slos": []}, "no objective"),
        ({}, "slos"),
        ([], "Expected"),
        ("[", "line 2"),
    ],
)
def test_faulty_objectives(tmp_path: Path, document: Any, named: str) -> None:
    """A file that cannot be judged by is bad input of one line that names the file and what is wrong."""
    path = tmp_path / "slo.yaml"
    path.write_text(document if isinstance(document, str) else yaml.safe_dump(document))
    with pytest.raises(BadInput) as caught:
        load_slos(path)
    assert str(caught.value).startswith(f"--slo {path}: ")
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_objectives(tmp_path: Path) -> None:
    """A file that is not there is bad input."""
    with pytest.raises(BadInput, match="cannot be read"):
        load_slos(tmp_path / "none.yaml")


def test_the_events_that_can_decide() -> None:
    """An objective needs as many events as make one bad one its whole budget."""
    needed = {slo.name: round(slo.min_total) for slo in load_slos()}
    assert (needed["api-availability"], needed["api-latency-read"], needed["api-latency-extract"]) == (200, 100, 20)
