"""Limits of both kinds of cgroups are written and read, and without rights the message says what to do."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from loadtest.scaling.limited import PARENT, V1_CONTROLLERS, Cgroup, NoCgroups, Used
from tests.unit.scaling_fixtures import RESOURCES

MIB = 2**20


def version_2(root: Path) -> Cgroup:
    """Make a cgroup of version 2 in a folder."""
    (root / "cgroup.controllers").write_text("cpu memory\n", encoding="utf-8")
    return Cgroup("api-001", RESOURCES, root)


def test_version_2_gets_its_limits(tmp_path: Path) -> None:
    """A whole core is 100 ms of 100 ms, memory is bytes, and both controllers are switched on above the pod."""
    version_2(tmp_path)
    folder = tmp_path / PARENT / "api-001"
    assert (folder / "cpu.max").read_text(encoding="utf-8") == "100000 100000"
    assert (folder / "memory.max").read_text(encoding="utf-8") == str(512 * MIB)
    for parent in (tmp_path, tmp_path / PARENT):
        assert (parent / "cgroup.subtree_control").read_text(encoding="utf-8") == "+cpu +memory"


def test_version_1_gets_its_limits(tmp_path: Path) -> None:
    """Quota, period and shares are the CPU controller's, the limit is the memory controller's."""
    Cgroup("api-001", RESOURCES, tmp_path)
    cpu, memory = tmp_path / "cpu" / PARENT / "api-001", tmp_path / "memory" / PARENT / "api-001"
    written = {path.name: path.read_text(encoding="utf-8") for path in cpu.iterdir()}
    assert written == {"cpu.cfs_period_us": "100000", "cpu.cfs_quota_us": "100000", "cpu.shares": "256"}
    assert (memory / "memory.limit_in_bytes").read_text(encoding="utf-8") == str(512 * MIB)


def test_version_2_says_what_was_used(tmp_path: Path) -> None:
    """CPU comes in microseconds, and idle file pages are no part of the working set."""
    cgroup, folder = version_2(tmp_path), tmp_path / PARENT / "api-001"
    (folder / "cpu.stat").write_text("usage_usec 2500000\nnr_periods 40\nnr_throttled 10\n", encoding="utf-8")
    (folder / "memory.stat").write_text(f"anon 5\ninactive_file {20 * MIB}\n", encoding="utf-8")
    (folder / "memory.current").write_text(f"{120 * MIB}\n", encoding="utf-8")
    assert cgroup.used() == Used(2.5, 100 * MIB, 40, 10)


def test_version_1_says_what_was_used(tmp_path: Path) -> None:
    """CPU comes in nanoseconds from its own controller, and more idle pages than pages are no memory."""
    cgroup = Cgroup("api-001", RESOURCES, tmp_path)
    cpu, acct, memory = (tmp_path / controller / PARENT / "api-001" for controller in V1_CONTROLLERS)
    (cpu / "cpu.stat").write_text("nr_periods 40\nnr_throttled 10\nthrottled_time 9\n", encoding="utf-8")
    (acct / "cpuacct.usage").write_text("2500000000\n", encoding="utf-8")
    (memory / "memory.stat").write_text(f"total_inactive_file {20 * MIB}\n", encoding="utf-8")
    (memory / "memory.usage_in_bytes").write_text(f"{120 * MIB}\n", encoding="utf-8")
    assert cgroup.used() == Used(2.5, 100 * MIB, 40, 10)
    (memory / "memory.usage_in_bytes").write_text("5\n", encoding="utf-8")
    assert cgroup.used().memory == 0


def test_a_folder_that_cannot_be_made_names_the_rights(tmp_path: Path) -> None:
    """Where no cgroup can be made the message says so on one line, and what to do."""
    (tmp_path / "cpu").write_text("no folder", encoding="utf-8")
    with pytest.raises(NoCgroups, match=r"^no rights for cgroups \(.*: Not a directory\)") as caught:
        Cgroup("api-001", RESOURCES, tmp_path)
    assert str(caught.value).endswith("run as root, or where a cgroup is delegated")
    assert "\n" not in str(caught.value)


def test_a_limit_that_cannot_be_set_leaves_no_cgroup(tmp_path: Path) -> None:
    """A controller that refuses the quota is reported in the same way, and what was made is removed."""
    folder = tmp_path / "memory" / PARENT / "api-001"
    (tmp_path / "cpu" / PARENT / "api-001" / "cpu.cfs_quota_us").mkdir(parents=True)
    with pytest.raises(NoCgroups, match="no rights for cgroups"):
        Cgroup("api-001", RESOURCES, tmp_path)
    assert not folder.exists()


def test_a_command_enters_its_cgroup_before_it_begins(tmp_path: Path) -> None:
    """The shell writes its own number to every controller and becomes the command with all of its arguments."""
    command = Cgroup("api-001", RESOURCES, tmp_path).command(["/bin/sh", "-c", 'echo "$$ $1"', "sh", "two words"])
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    number, _, words = done.stdout.strip().partition(" ")
    assert words == "two words"
    for controller in V1_CONTROLLERS:
        procs = tmp_path / controller / PARENT / "api-001" / "cgroup.procs"
        assert procs.read_text(encoding="utf-8").strip() == number


def test_a_command_that_cannot_enter_does_not_begin(tmp_path: Path) -> None:
    """A process outside of its limits would measure something else, so it ends with 1."""
    command = version_2(tmp_path).command(["/bin/echo", "ran"])
    (tmp_path / PARENT / "api-001" / "cgroup.procs").mkdir()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")


def test_what_is_left_in_a_cgroup_is_ended_with_it(tmp_path: Path) -> None:
    """Removing kills the processes that the cgroup still lists."""
    cgroup = version_2(tmp_path)
    with subprocess.Popen(["/bin/sleep", "60"]) as process:
        (tmp_path / PARENT / "api-001" / "cgroup.procs").write_text(f"{process.pid}\n", encoding="utf-8")
        cgroup.remove()
        assert process.wait(10) == -9
