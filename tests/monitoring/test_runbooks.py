from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
import yaml

from observability.source.slo import load_objectives
from service.settings import Settings
from tests.monitoring.test_rules import known_names, names_in
from tests.monitoring.tools import ALERTS, OBSERVABILITY, ROOT, RULES, alerts, tool
from tests.support import LiveService
from tools.gameday.faults import FAULTS
from tools.gameday.monitoring import free_port
from tools.testbed.api_client import Client

pytestmark = [pytest.mark.proof, pytest.mark.xdist_group("runbooks")]

RUNBOOKS = sorted((ALERTS / "runbooks").glob("*.md"))
PAGES = [page for page in RUNBOOKS if page.stem != "README"]
SECTIONS = ["First look", "Mitigation", "How it clears", "How it was tested"]
CSV = b"user,price\n" + b"".join(b"u%d,%d\n" % (n % 9, n % 31) for n in range(300))
BARE_METRICS = {"process_resident_memory_bytes", "process_cpu_seconds_total", "process_start_time_seconds"}
KUBECTL: dict[str, set[str]] = {
    "get": {"-l", "-o", "--sort-by", "--all-namespaces"},
    "describe": set(),
    "logs": {"--since", "--previous"},
    "rollout history": set(),
    "rollout restart": set(),
    "rollout status": {"--timeout"},
    "rollout undo": set(),
    "scale": {"--replicas"},
    "top pods": {"-l", "--containers"},
    "exec": set(),
    "cordon": set(),
}
"""The verbs that runbooks use, and the options that kubectl knows for them."""
KINDS = {
    "pods", "deploy", "events", "hpa", "certificates", "certificate", "cronjob", "jobs", "nodes", "statefulset", "job",
}  # fmt: skip


def blocks(page: Path, language: str) -> list[str]:
    """The lines of a page's fenced blocks of that language."""
    found = re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.DOTALL)
    return [line for block in found for line in block.splitlines() if line.strip()]


def inline(page: Path, program: str) -> list[str]:
    """Commands of that program within sentences."""
    return re.findall(rf"(?<!`)`({program} [^`\n]+)`(?!`)", page.read_text())


def commands(program: str) -> list[str]:
    """Every different command of that program in any page."""
    found = [
        line
        for page in RUNBOOKS
        for line in (*blocks(page, "sh"), *inline(page, program))
        if shlex.split(line)[0] == program
    ]
    return sorted(set(found))


QUERIES = sorted({line for page in PAGES for line in blocks(page, "promql")})


def test_each_alert_has_its_page_and_each_page_its_alert() -> None:
    """A page for every alert, and none that is left over."""
    assert {page.stem for page in PAGES} == {rule["alert"] for rule in alerts()}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_says_what_it_has_to(page: Path) -> None:
    """Meaning and impact, a first look with queries, mitigation, how it clears and how it was tested; short."""
    text = page.read_text()
    assert text.startswith(f"# {page.stem}\n\n**Meaning.** ")
    assert "\n**Impact.** " in text
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == SECTIONS
    assert blocks(page, "promql")
    assert re.search(r"^1\. ", text, re.MULTILINE)
    assert len(text.splitlines()) < 60
    for target in re.findall(r"\]\((?!http)([^)]+)\)", text):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_a_page_says_of_its_tests_is_true(page: Path) -> None:
    """The proofs that it names prove its alert, and the faults that it names have its alert come."""
    tested = page.read_text().partition("## How it was tested")[2]
    [proofs] = re.findall(r"\]\((\S+\.test\.yml)\)", tested)
    shown = yaml.safe_load((page.parent / proofs).read_text())["tests"]
    assert any(check["alertname"] == page.stem for test in shown for check in test["alert_rule_test"])
    played = {fault.name for fault in FAULTS if page.stem in {*(each.alert for each in fault.alerts), *fault.may_page}}
    named = set(re.findall(r"`([a-z0-9-]+)`", tested))
    assert named <= played, named - played
    expected = {fault.name for fault in FAULTS if page.stem in {each.alert for each in fault.alerts}}
    assert not expected or named, f"a game day shows it: {expected}"


def test_links_to_dashboards_exist() -> None:
    """Every dashboard that a page names is one that alerts lead to."""
    led = {re.search(r"/d/([\w-]+)", rule["annotations"]["dashboard_url"]) for rule in alerts()}
    known = {found[1] for found in led if found}
    assert {found for page in PAGES for found in re.findall(r"/d/([\w-]+)", page.read_text())} <= known


def test_queries_use_names_that_exist() -> None:
    """No page asks for a metric that nothing exports."""
    known = known_names() | BARE_METRICS
    for query in QUERIES:
        assert names_in(query) <= known, query


@dataclass
class Bench:
    """A real service without a worker, a real Prometheus on it, and what the commands' variables stand for."""

    environment: dict[str, str]
    prometheus: str

    def run(self, line: str) -> subprocess.CompletedProcess[str]:
        """A line as an operator would enter it."""
        return subprocess.run(
            ["bash", "-ec", line], env=self.environment, cwd=ROOT, capture_output=True, text=True, check=False,
            timeout=200,
        )  # fmt: skip


def _failed(client: Client, url: str) -> str:
    """An extraction that has failed."""
    assert client.upload("events", CSV).status == 201
    body = {"dataset_id": "events", "feature_description": "Average price for each user"}
    answer = client.post_json("/api/v1/extract-features", body, Prefer="respond-async")
    assert answer.status == 202
    extraction: str = answer.data["extraction_id"]
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(
            "UPDATE extractions SET status = 'failed', finished_at = now(), progress = 100 WHERE id = %s", [extraction]
        )
    return extraction


@pytest.fixture(scope="module")
def bench(
    make_settings: Callable[..., Settings], new_database: Callable[[], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Bench]:
    """The bench, for all commands and queries."""
    program, folder, url = tool("prometheus"), tmp_path_factory.mktemp("bench"), new_database()
    binaries = folder / "bin"
    binaries.mkdir()
    (binaries / "feature-agent").write_text(f'#!/bin/sh\nexec {sys.executable} -m service "$@"\n')
    (binaries / "feature-agent").chmod(0o755)
    settings = make_settings(database_url=url, worker_in_api=False)
    with LiveService(settings) as live:
        prometheus, metrics = free_port(), str(live.runtime.metrics_address).removesuffix("/metrics")
        (folder / "prometheus.yml").write_text(
            yaml.safe_dump(
                {
                    "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
                    "rule_files": [str(path) for path in RULES],
                    "scrape_configs": [
                        {
                            "job_name": "feature-agent",
                            "static_configs": [{"targets": [metrics.removeprefix("http://")]}],
                        }
                    ],
                }
            )
        )
        keys = {
            "PATH": f"{binaries}:{os.environ['PATH']}", "HOME": os.environ["HOME"], "PYTHONPATH": str(ROOT),
            "ENVIRONMENT": "test", "DATABASE_URL": url, "DATA_DIR": str(settings.data_dir),
            "API": live.url, "METRICS": metrics, "PROM": f"http://127.0.0.1:{prometheus}",
            "ID": _failed(live.client, url), "BACKUP_URL": str(folder / "backup"),
        }  # fmt: skip
        bench = Bench(keys, keys["PROM"])
        made = json.loads(bench.run("feature-agent keys create --name spare --json").stdout)
        keys["KEY_ID"] = made["id"]
        command = [
            program, f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'tsdb'}",
            f"--web.listen-address=127.0.0.1:{prometheus}",
        ]  # fmt: skip
        with (folder / "prometheus.log").open("w") as log:
            process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        try:
            ready = bench.run("for _ in $(seq 600); do curl -fsS $PROM/-/ready && exit 0; sleep 0.1; done; exit 1")
            assert ready.returncode == 0, (folder / "prometheus.log").read_text()[-2000:]
            yield bench
        finally:
            process.kill()
            process.wait()


@pytest.mark.timeout(600)
def test_every_query_is_executed(bench: Bench) -> None:
    """Prometheus runs each query of each page without an error."""
    assert len(QUERIES) > 60
    for query in QUERIES:
        url = f"{bench.prometheus}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
        try:
            with urllib.request.urlopen(url, timeout=60) as answer:  # noqa: S310 -- our own server
                assert json.loads(answer.read())["status"] == "success", query
        except urllib.error.HTTPError as error:
            with error:
                pytest.fail(f"{query}: {error.read().decode()}")


@pytest.mark.timeout(900)
def test_every_command_of_ours_does_what_it_says(bench: Bench) -> None:
    """Each `feature-agent` and `curl` line ends well against a real service, one after the other."""
    found = [line for program in ("curl", "feature-agent") for line in commands(program)]
    found.sort(key=lambda line: "jobs cancel" in line)  # after its retry, for what has ended cannot be cancelled
    restores = [line for line in found if " restore " in line]
    assert len(found) > 10
    for line in (line for line in found if line not in restores):
        done = bench.run(line)
        assert done.returncode == 0, (line, done.stdout, done.stderr)
    assert restores
    for line in restores:  # the service is not stopped, and its database has rows: refused, in so many words
        done = bench.run(line)
        assert done.returncode == 2, (line, done.stderr)
        assert "--yes" in done.stderr


def _verb(words: list[str]) -> str:
    return next(verb for verb in (" ".join(words[:2]), words[0]) if verb in KUBECTL)


@pytest.mark.parametrize("line", commands("kubectl"))
def test_every_kubectl_line_is_one_that_kubectl_takes(line: str) -> None:
    """Verb, kind of object and options are those of kubectl, and the object is one that the service has."""
    words = shlex.split(line.partition(" -- ")[0])[1:]
    verb = _verb(words)
    rest = words[len(verb.split()) :]
    options = {word.partition("=")[0] for word in rest if word.startswith("-")}
    assert options <= KUBECTL[verb], options - KUBECTL[verb]
    plain = [word for word in rest if not word.startswith("-") and "=" not in word and word != "wide"]
    kinds = {word.partition("/")[0] for word in plain[:1]}
    assert kinds <= KINDS or verb == "top pods", kinds


def test_pages_are_served_by_prometheus_where_alerts_link_to() -> None:
    """The address in the annotations is below the folder that Prometheus is told to serve."""
    objectives = load_objectives(OBSERVABILITY / "slo.yaml")
    assert objectives.links.runbooks.endswith(f"/user/{ALERTS.joinpath('runbooks').relative_to(ALERTS)}")
