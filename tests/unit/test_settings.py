from __future__ import annotations

from pathlib import Path

import pytest

from service.engines.selection import engine_options
from service.settings import SettingsError, load_settings

GOOD_SECRET = "0123456789abcdef0123456789abcdef"


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No variable of the machine and no `.env` reaches these tests."""
    for name in ("ENVIRONMENT", "DATABASE_URL", "JWT_SECRET", "DEBUG", "PORT", "SECRETS_DIR", "ALLOWED_HOSTS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


def refused(**values: str) -> str:
    """The line that these settings are refused with."""
    with pytest.raises(SettingsError) as caught:
        load_settings(**values)
    return str(caught.value)


def test_development_needs_nothing() -> None:
    """With an empty environment the settings are complete."""
    settings = load_settings()

    assert settings.environment == "development"
    assert settings.database_url is None
    assert settings.primary_model == "builtin:planner"


def test_production_names_every_fault_at_once() -> None:
    """One start is enough to learn all that production refuses."""
    line = refused(environment="production", debug="true", allowed_hosts="*", cors_origins="*")

    for word in ("JWT_SECRET", "DEBUG", "ALLOWED_HOSTS", "CORS_ORIGINS", "DATABASE_URL"):
        assert word in line


def test_a_bad_field_does_not_hide_the_other_faults() -> None:
    """A port that is no number and a missing secret are told together."""
    line = refused(environment="production", port="many")

    assert "PORT" in line
    assert "JWT_SECRET is not set" in line


def test_production_starts_when_all_is_said() -> None:
    """A complete production environment is accepted."""
    settings = load_settings(
        environment="production",
        jwt_secret=GOOD_SECRET,
        database_url="postgresql://db/features",
        allowed_hosts="api.test",
    )

    assert settings.allowed_hosts == ("api.test",)


def test_no_secret_is_repeated() -> None:
    """Neither an error nor a printed settings object shows a secret."""
    assert "hunter2" not in refused(environment="production", jwt_secret="hunter2")
    assert GOOD_SECRET not in repr(load_settings(jwt_secret=GOOD_SECRET))


@pytest.mark.parametrize(
    ("name", "value", "word"),
    [
        ("workers", "4", "WORKERS"),
        ("trace_url", "javascript:alert(1)", "TRACE_URL"),
        ("access_log_sample", "1.5", "ACCESS_LOG_SAMPLE"),
        ("engine_url", "sc://spark:15002", "ENGINE_URL"),
        ("engine_url", "duckdb://?memory_mib=0", "memory_mib"),
        ("engine_url", "duckdb://?colour=red", "colour"),
        ("api_key_header", "X Key", "API_KEY_HEADER"),
        ("port", "70000", "PORT"),
        ("environment", "moon", "ENVIRONMENT"),
    ],
)
def test_a_bad_value_names_its_variable(name: str, value: str, word: str) -> None:
    """The line says which variable to mend."""
    assert word in refused(**{name: value})


def test_secrets_come_from_mounted_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A file named like the setting in SECRETS_DIR gives its value."""
    folder = tmp_path / "secrets"
    folder.mkdir()
    (folder / "jwt_secret").write_text(GOOD_SECRET)
    monkeypatch.setenv("SECRETS_DIR", str(folder))

    secret = load_settings().jwt_secret

    assert secret is not None
    assert secret.get_secret_value() == GOOD_SECRET


def test_lists_are_split_at_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    """`ALLOWED_HOSTS=a, b` is two hosts."""
    monkeypatch.setenv("ALLOWED_HOSTS", "a.test, b.test,")

    assert load_settings().allowed_hosts == ("a.test", "b.test")


def test_engine_options_are_read_from_the_address() -> None:
    """What the address leaves out keeps its default."""
    options = engine_options("duckdb://?memory_mib=256&threads=1")

    assert options == {"memory_mib": 256, "threads": 1, "scratch_mib": 20_480, "timeout_seconds": 600, "concurrency": 4}


def test_models_are_named_once_in_the_order_in_which_they_are_asked() -> None:
    """Primary, fallback, last resort; a name that stands twice is asked once."""
    assert load_settings().model_names() == ("builtin:planner",)
    three = load_settings(primary_model="a:b", fallback_model="c:d", model_last_resort="builtin")
    assert three.model_names() == ("a:b", "c:d", "builtin:planner")
    assert load_settings(primary_model="a:b", fallback_model="a:b").model_names() == ("a:b",)
