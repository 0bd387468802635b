"""The manifests are read as they are, and what they lack is named with its file."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from loadtest.errors import BadInput
from loadtest.scaling.manifest import BASE, MIB, Resources, cpu_millis, memory_bytes, read_deployed


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """Give a copy of k8s/base that a test may spoil."""
    return Path(shutil.copytree(BASE, tmp_path / "base"))


def spoil(path: Path, old: str, new: str) -> None:
    """Replace a piece of a file that is certainly there."""
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def test_the_api_is_read_as_it_is() -> None:
    """Requests, limits, preStop, grace, settings of both files and the autoscaler's spec are the manifests' own."""
    api = read_deployed("api")
    assert (api.name, api.component) == ("feature-agent-api", "api")
    assert api.resources == Resources(200, 1000, 320 * MIB, 512 * MIB)
    assert (api.pre_stop_seconds, api.grace_seconds) == (5.0, 60.0)
    assert (api.settings["DRAIN_SECONDS"], api.settings["DATABASE_POOL_SIZE"]) == ("10", "4")
    assert api.settings["ENGINE_URL"].endswith("scratch_mib=1024&concurrency=1")
    assert not any(name.startswith("#") for name in api.settings)
    spec = api.spec()
    assert (spec.minimum, spec.maximum) == (3, 10)
    assert [(one.name, one.amount) for one in spec.metrics] == [
        ("cpu", 70), ("memory", 80), ("api_requests_in_flight", 8000),
    ]  # fmt: skip


def test_the_worker_is_read_as_it_is() -> None:
    """The worker has no preStop, more of everything, and an autoscaler that looks at the queue."""
    worker = read_deployed("worker")
    assert worker.resources == Resources(500, 1000, 384 * MIB, 768 * MIB)
    assert (worker.pre_stop_seconds, worker.grace_seconds) == (0.0, 70.0)
    assert (worker.settings["WORKER_CONCURRENCY"], worker.settings["DATABASE_POOL_SIZE"]) == ("2", "3")
    spec = worker.spec()
    assert (spec.minimum, spec.maximum) == (2, 6)
    assert [(one.name, one.amount) for one in spec.metrics] == [
        ("extraction_queue_jobs", 4000), ("extraction_queue_oldest_seconds", 8000),
    ]  # fmt: skip


@pytest.mark.parametrize(("quantity", "millis"), [("250m", 250), ("1", 1000), (2, 2000), ("0.5", 500), (1.5, 1500)])
def test_cpu_is_read_in_thousandths_of_a_core(quantity: str | float, millis: int) -> None:
    """A quantity of CPU with m, without, and as a number of YAML gives thousandths."""
    assert cpu_millis(quantity) == millis


@pytest.mark.parametrize(
    ("quantity", "size"),
    [("320Mi", 320 * 2**20), ("1Gi", 2**30), ("4Ki", 4096), ("5M", 5_000_000), ("2k", 2000), ("3G", 3 * 10**9),
     ("0.5Gi", 2**29), (4096, 4096), ("1e3", 1000)],
)  # fmt: skip
def test_memory_is_read_in_bytes(quantity: str | float, size: int) -> None:
    """Binary and decimal suffixes, and plain bytes, are told apart."""
    assert memory_bytes(quantity) == size


def test_a_missing_file_is_named(base: Path) -> None:
    """Without its manifest a component cannot be read, and the message names the file."""
    (base / "autoscaling.yaml").unlink()
    with pytest.raises(BadInput, match=r"autoscaling\.yaml: cannot be read: No such file or directory$"):
        read_deployed("api", base)


def test_a_file_that_is_no_yaml_is_named(base: Path) -> None:
    """The message about broken YAML is one line that names the file and the place."""
    (base / "api.yaml").write_text("kind: [Deployment\nname: x\n", encoding="utf-8")
    with pytest.raises(BadInput, match=r"api\.yaml: is no YAML: .*line 2") as caught:
        read_deployed("api", base)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_text_is_named(base: Path) -> None:
    """Bytes that are no UTF-8 are bad input and no traceback."""
    (base / "api.yaml").write_bytes(b"kind: \xff\xfe\n")
    with pytest.raises(BadInput, match=r"api\.yaml: is no YAML: "):
        read_deployed("api", base)


def test_a_missing_object_is_named(base: Path) -> None:
    """A Deployment under another name is not taken for the one that was asked for."""
    spoil(base / "api.yaml", "name: feature-agent-api", "name: another")
    with pytest.raises(BadInput, match=r"api\.yaml: there is no Deployment feature-agent-api$"):
        read_deployed("api", base)


def test_an_object_without_a_name_is_passed_over(base: Path) -> None:
    """A Deployment that lacks metadata is not the one that was asked for."""
    (base / "api.yaml").write_text("kind: Deployment\n", encoding="utf-8")
    with pytest.raises(BadInput, match=r"api\.yaml: there is no Deployment feature-agent-api$"):
        read_deployed("api", base)


@pytest.mark.parametrize("field", ["requests", "limits", "terminationGracePeriodSeconds", "containers"])
def test_a_missing_field_is_named(base: Path, field: str) -> None:
    """What a target is measured in has to be there: the message names the file, the Deployment and the field."""
    spoil(base / "api.yaml", f" {field}:", f" x{field}:")
    with pytest.raises(BadInput, match=rf"/api\.yaml: feature-agent-api lacks '{field}'$"):
        read_deployed("api", base)


def test_missing_settings_are_none(base: Path) -> None:
    """A component without an .env file has the shared settings only."""
    (base / "api.env").unlink()
    settings = read_deployed("api", base).settings
    assert "DATABASE_POOL_SIZE" not in settings
    assert settings["DRAIN_SECONDS"] == "10"


def test_a_quantity_that_is_none_is_named(base: Path) -> None:
    """A quantity that cannot be read is not called missing."""
    spoil(base / "api.yaml", "memory: 320Mi", "memory: plenty")
    with pytest.raises(BadInput, match=r"/api\.yaml: feature-agent-api cannot be read: .*'plenty'$"):
        read_deployed("api", base)
