"""Whatever is wrong with what it is given, the command ends with exit status 2, one line, and no verdict of a pass."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from loadtest import running
from loadtest.__main__ import main
from loadtest.errors import NotMeasured
from loadtest.measure.indicators import SLO_FILE
from loadtest.running import await_quiet
from loadtest.traffic.scenario import DEFAULT
from service.settings import Settings
from tests.loadtest.on_a_busy_machine import lift_bounds
from tests.loadtest.stand import loadtest
from tests.support import LiveService

pytestmark = [pytest.mark.xdist_group("loadtest-input"), pytest.mark.timeout(240)]

Document = dict[str, Any]


@pytest.fixture(scope="module")
def live(make_settings: Callable[..., Settings]) -> Iterator[LiveService]:
    """A service that takes few requests a minute."""
    with LiveService(make_settings(environment="development", rate_limit_per_minute=300)) as live:
        yield live


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """No key, and no demands on the machine."""
    for name in ("FEATURE_AGENT_KEY", "FEATURE_AGENT_KEY_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(running, "MAX_PRESSURE", 100.0)


def refused(capsys: pytest.CaptureFixture[str], out: Path, *arguments: str) -> str:
    """Run a gate that must be refused; gives its one line."""
    if out.is_dir():
        (out / "verdict.json").write_text('{"verdict": "pass"}')
    status = main(["gate", "--out", str(out), *arguments])
    captured = capsys.readouterr()
    lines = [line for line in captured.err.splitlines() if not line[:2].isdigit()]  # progress begins with the time
    assert (status, captured.out, len(lines)) == (2, "", 1), captured
    assert not (out / "verdict.json").exists() or out.is_file()
    return lines[0]


def changed(source: Path, folder: Path, change: Callable[[Document], object]) -> str:
    """Write a changed copy of a YAML file."""
    document = yaml.safe_load(source.read_text())
    change(document)
    path = folder / f"changed-{source.name}"
    path.write_text(yaml.safe_dump(document))
    return str(path)


WRONG_SCENARIOS: list[tuple[Callable[[Document], object], str]] = [
    (lambda document: document.pop("mix"), "mix"),
    (lambda document: document.pop("rate"), "rate"),
    (lambda document: document["data"].update(datasets=0), "the pool is empty"),
    (lambda document: document["data"].update(sentences=[]), "the pool is empty"),
    (lambda document: document["data"].update(sentences=["Mean price"]), "give the scenario more datasets"),
    (lambda document: document["mix"].update(teapot=1), "teapot"),
]
WRONG_OBJECTIVES: list[tuple[Callable[[Document], object], str]] = [
    (lambda document: document["slos"][0].update(objective=100), "objective"),
    (lambda document: document["slos"][0].update(objective=0), "objective"),
    (lambda document: document["slos"][0]["sli"].update(total="rate(api_requests_total[5m])"), "is not a selector"),
    (lambda document: document["slos"][0]["sli"].update(total="api_requests_total{a=b}"), "cannot read"),
    (lambda document: document.pop("slos"), "slos"),
]


@pytest.mark.parametrize(("change", "named"), WRONG_SCENARIOS)
def test_a_scenario(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: Callable[[Document], object], named: str
) -> None:
    """A scenario that is wrong, or whose data is not enough, is refused before anything is started."""
    path = changed(DEFAULT, tmp_path, change)
    assert named in refused(capsys, tmp_path, "--scenario", path)


@pytest.mark.parametrize(("change", "named"), WRONG_OBJECTIVES)
def test_objectives(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: Callable[[Document], object], named: str
) -> None:
    """An objective that cannot be met or read is refused; a pass of an earlier gate does not stay behind."""
    line = refused(capsys, tmp_path, "--slo", changed(SLO_FILE, tmp_path, change))
    assert line.startswith("--slo ")
    assert named in line


def test_broken_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Broken YAML and JSON, and files that are not there, are named."""
    broken = tmp_path / "broken"
    broken.write_text("[")
    for option in ("--scenario", "--slo", "--baseline"):
        assert refused(capsys, tmp_path, option, str(broken)).startswith(f"{option} {broken}: ")
        missing = str(tmp_path / "missing")
        assert refused(capsys, tmp_path, option, missing).startswith(f"{option} {missing}: cannot be read")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--shape", "cliff"), "--shape cliff"),
        (("--rate", "0"), "--rate 0"),
        (("--rate", "-3"), "--rate -3"),
        (("--rate", "nan"), "--rate nan"),
        (("--rate", "inf"), "--rate inf"),
        (("--rate", "90000"), "the data pool has"),
        (("--stage-seconds", "0.5"), "--stage-seconds 0.5"),
        (("--warm-up-seconds", "nan"), "--warm-up-seconds nan"),
        (("--warm-up-seconds", "-1"), "--warm-up-seconds -1"),
        (("--generators", "0"), "--generators 0"),
        (("--host", ""), "write it as http://name:port"),
        (("--host", "localhost:8000"), "write it as http://name:port"),
        (("--host", "http://127.0.0.1:99999"), "write it as http://name:port"),
        (("--host", "http://127.0.0.1:1", "--key", "a\nb"), "--key: an API key is one word"),
        (("--host", "http://127.0.0.1:1", "--key", "k"), "cannot be reached: Connection refused"),
        (("--host", "http://no-such-host.invalid", "--key", "k"), "cannot be reached"),
    ],
)
def test_options(tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], named: str) -> None:
    """Options that cannot be followed are refused with a sentence that names them."""
    key = () if "--key" in arguments else ("--key", "k")
    assert named in refused(capsys, tmp_path, *key, *arguments)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--rate", "fast"), "invalid float value: 'fast'"),
        (("--generators", "two"), "invalid int value: 'two'"),
        (("--users", "10"), "unrecognized arguments: --users 10"),
    ],
)
def test_a_command_line(capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], named: str) -> None:
    """A command line that cannot be read is refused in one line, before its folder is known."""
    assert main(["gate", "--out", "unused", *arguments]) == 2
    captured = capsys.readouterr()
    assert (captured.out, captured.err.count("\n")) == ("", 1)
    assert named in captured.err


def test_no_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A host without a key is refused; the sentence says where a key is looked for."""
    assert "FEATURE_AGENT_KEY_FILE" in refused(capsys, tmp_path, "--host", "http://127.0.0.1:1")


@pytest.mark.parametrize("out", ["file", "file/folder"])
def test_a_folder_that_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str], out: str) -> None:
    """Results that cannot be kept are no reason to begin."""
    (tmp_path / "file").write_text("")
    assert refused(capsys, tmp_path / out).startswith(f"--out {tmp_path / out}: cannot be written")


def test_no_folder(capsys: pytest.CaptureFixture[str]) -> None:
    """A gate without a folder, and a command line without a command, are refused in one line."""
    for arguments in (["gate"], [], ["run"], ["teapot"], ["report"], ["report", "/no/such/folder"]):
        assert main(arguments) == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_a_model_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A latency distribution that is none is refused before a service is started for it."""
    path = changed(DEFAULT, tmp_path, lambda document: document.update(model="no-such"))
    assert "model: no-such: take builtin" in refused(capsys, tmp_path, "--scenario", path)


# -- services that are there -------------------------------------------------------------------------------------


def test_a_wrong_key(tmp_path: Path, capsys: pytest.CaptureFixture[str], live: LiveService) -> None:
    """A key that the service does not know is refused before the load."""
    line = refused(capsys, tmp_path, "--host", live.url, "--key", "wrong")
    assert line.startswith("--key: ")
    assert "(401 " in line


def test_a_rate_limit_below_the_load(tmp_path: Path, capsys: pytest.CaptureFixture[str], live: LiveService) -> None:
    """A key that may ask 300 times a minute is refused for a run that asks more; the sentence says what to raise."""
    line = refused(capsys, tmp_path, "--host", live.url, "--key", live.key)
    assert "takes 300 requests a minute" in line
    assert "raise RATE_LIMIT_PER_MINUTE, or lower --rate" in line


def test_metrics_that_are_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str], live: LiveService) -> None:
    """A service whose metrics cannot be read cannot be judged."""
    for metrics in ("http://127.0.0.1:1/metrics", "nonsense"):
        more = ("--rate", "1", "--metrics", metrics)
        line = refused(capsys, tmp_path, "--host", live.url, "--key", live.key, *more)
        assert "say where they are with --metrics" in line


def test_a_bound_that_is_no_bucket(tmp_path: Path, capsys: pytest.CaptureFixture[str], live: LiveService) -> None:
    """An objective whose bound the service's histogram does not have is refused, after the shortest run."""
    slo = changed(SLO_FILE, tmp_path, lambda document: document["slos"][1]["sli"].update(within=0.3))
    more = ("--rate", "1", "--stage-seconds", "1", "--warm-up-seconds", "1", "--slo", slo)
    line = refused(capsys, tmp_path, "--host", live.url, "--key", live.key, *more)
    assert "has no bucket of 0.3 s" in line


@pytest.mark.parametrize("greeting", [b"SSH-2.0-OpenSSH_9\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"])
def test_a_host_that_is_something_else(tmp_path: Path, capsys: pytest.CaptureFixture[str], greeting: bytes) -> None:
    """A host of another protocol, and a web server that answers 200 to everything, are refused."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=_greet, args=(listener, greeting), daemon=True).start()
        host = f"http://127.0.0.1:{listener.getsockname()[1]}"
        line = refused(capsys, tmp_path, "--host", host, "--key", "k")
        listener.shutdown(socket.SHUT_RDWR)
    assert host in line


def _greet(listener: socket.socket, greeting: bytes) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        with connection:
            connection.recv(4096)
            connection.sendall(greeting)


def test_the_process_itself(tmp_path: Path) -> None:
    """The command as it is started ends with the same status and line."""
    done = loadtest("gate", "--out", "x", "--rate", "nan", cwd=tmp_path, really=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "--rate nan: clients arrive at more than 0 and at most 100000 a second\n"


def test_the_schema(capsys: pytest.CaptureFixture[str]) -> None:
    """The schema of verdict.json is printed without any other option."""
    assert main(["gate", "--schema"]) == 0
    assert "Verdict" in json.loads(capsys.readouterr().out)["$defs"]


# -- a busy machine ----------------------------------------------------------------------------------------------


def test_a_machine_that_stays_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that does not become quiet is no machine to measure on; one that does is waited for."""
    monkeypatch.setattr(running, "QUIET_TIMEOUT_SECONDS", 0.05)
    monkeypatch.setattr(running, "PROGRESS_SECONDS", 0.01)
    monkeypatch.setattr(running, "MAX_PRESSURE", 30.0)
    said: list[str] = []
    with pytest.raises(NotMeasured, match=r"in 31 % of the last 10 s something waited for a CPU"):
        await_quiet(said.append, lambda: 30.6)
    assert "waiting for the machine" in said[0]
    pressures = iter((90.0, 31.0, 30.0))
    await_quiet(said.append, lambda: next(pressures))
    await_quiet(said.append, lambda: None)


def test_not_measured_has_an_exit_status_of_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gate that cannot measure writes that down as its verdict and ends with 3."""

    def busy(*_: object) -> None:
        raise NotMeasured("the machine is busy")

    monkeypatch.setattr("loadtest.commands.run", busy)
    assert main(["gate", "--out", str(tmp_path), "--host", "http://127.0.0.1:1", "--key", "k"]) == 3
    verdict = json.loads((tmp_path / "verdict.json").read_text())
    assert verdict["verdict"] == "not_measured"
    assert verdict["reasons"][0]["sentence"] == "the machine is busy"
    assert "the machine is busy" in (tmp_path / "verdict.xml").read_text()
    capsys.readouterr()


def test_the_bounds_that_other_tests_lift(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stand of the other tests lifts demands on the machine alone."""
    from loadtest import gate

    for module, name in ((gate, "MAX_PRESSURE"), (gate, "MAX_FOREIGN_SHARE"), (gate, "MAX_LAG_MS")):
        monkeypatch.setattr(module, name, getattr(module, name))
    before = {name: value for name, value in vars(gate).items() if name.isupper()}
    lift_bounds()
    after = {name: value for name, value in vars(gate).items() if name.isupper()}
    lifted = {name for name, value in before.items() if after[name] != value}
    assert lifted == {"MAX_PRESSURE", "MAX_FOREIGN_SHARE", "MAX_LAG_MS"}
