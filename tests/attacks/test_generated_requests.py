"""Requests generated from the whole OpenAPI document: in sequences that follow each other, and without a credential."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
    use_after_free,
)

from tests.attacks.stand import Stand, open_stand

pytestmark = [pytest.mark.xdist_group("generated"), pytest.mark.unmeasured]

SEQUENCES, STEPS, CASES = 12, 12, 8
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
BOUNDED: dict[str, Any] = {
    "deadline": None,
    "derandomize": True,
    "database": None,
    "phases": [Phase.explicit, Phase.generate],
    "suppress_health_check": list(HealthCheck),
}
OPEN_TO_ALL = ("/health", "/health/live", "/health/ready")


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    """A service of its own, as its command line starts it; guesses of keys are no subject here."""
    with open_stand(tmp_path_factory.mktemp("generated"), {"FAILED_LOGINS_PER_MINUTE": "0"}) as stand:
        yield stand


@pytest.fixture(scope="module")
def document(stand: Stand) -> Any:
    """The document of the running service."""
    return schemathesis.openapi.from_dict(httpx2.get(f"{stand.url}/api/openapi.json").json())


def test_sequences_of_requests(stand: Stand, document: Any) -> None:
    """What one answer names is used in the next request, also after it was deleted: only documented answers."""
    answered: set[tuple[str, int]] = set()

    class Sequence(document.as_state_machine()):  # type: ignore[misc] -- made at run time
        def get_call_kwargs(self, case: Case) -> dict[str, Any]:
            return {"base_url": stand.url, "headers": {"Authorization": f"Bearer {stand.attacker}"}}

        def validate_response(self, response: Any, case: Case, **_: object) -> None:
            case.validate_response(response, checks=[*CHECKS, use_after_free])
            answered.add((case.operation.label, response.status_code))

    Sequence.run(settings=settings(max_examples=SEQUENCES, stateful_step_count=STEPS, **BOUNDED))

    assert {("POST /api/v1/datasets", 201), ("DELETE /api/v1/datasets/{dataset_id}", 204)} <= answered


def test_without_a_credential_nothing_but_health_is_served(stand: Stand, document: Any) -> None:
    """Generated requests to every protected operation are answered 401, or refused for their form."""
    operations = [result.ok() for result in document.get_all_operations()]

    assert len(operations) >= 17
    for operation in operations:
        if operation.path not in OPEN_TO_ALL:
            assert _statuses(stand, operation) <= {400, 401, 405}, operation.label


def _statuses(stand: Stand, operation: Any) -> set[int]:
    """Return what generated requests to an operation are answered without a credential."""
    statuses: set[int] = set()

    @given(case=operation.as_strategy(generation_mode=GenerationMode.POSITIVE))
    @settings(max_examples=CASES, **BOUNDED)
    def send(case: Case) -> None:
        response = case.call(base_url=stand.url, headers={"Authorization": ""})
        case.validate_response(response, checks=CHECKS)
        statuses.add(response.status_code)

    send()
    return statuses
