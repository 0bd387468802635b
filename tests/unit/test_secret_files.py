from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from service.resources.secrets import read_or_create_secret, read_secret, write_secret


def test_a_written_secret_is_its_owners_alone(tmp_path: Path) -> None:
    """The file is readable by its owner and nobody else."""
    path = tmp_path / "deep" / "key"

    write_secret(path, "fa_secret")

    assert path.stat().st_mode & 0o777 == 0o600
    assert read_secret(path) == "fa_secret"


def test_no_file_is_no_secret(tmp_path: Path) -> None:
    """A missing or empty file is None, not an error."""
    (tmp_path / "empty").write_text("\n")

    assert read_secret(tmp_path / "missing") is None
    assert read_secret(tmp_path / "empty") is None


def test_racing_processes_agree_on_one_secret(tmp_path: Path) -> None:
    """Whoever comes first makes the secret; all the others read that one, and no draft is left."""
    path = tmp_path / "jwt.secret"

    with ThreadPoolExecutor(8) as pool:
        secrets = set(pool.map(lambda _: read_or_create_secret(path), range(32)))

    assert len(secrets) == 1
    assert [file.name for file in tmp_path.iterdir()] == ["jwt.secret"]
