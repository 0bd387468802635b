"""Requests made up from the OpenAPI document, valid and not: none is a 5xx, and every answer is one it documents."""

from __future__ import annotations

from functools import cache
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    positive_data_acceptance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.api.test_documentation import OPERATIONS
from tests.support import LiveService

BOUNDED = settings(
    max_examples=15,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
NOTHING_TO_FORBID = {"get_health", "get_liveness", "get_readiness", "create_token", "get_webhook_secrets"}
MODES = [
    pytest.param(operation_id, mode, id=f"{operation_id}-{mode.value}")
    for operation_id in sorted(OPERATIONS)
    for mode in GenerationMode
    if mode is GenerationMode.POSITIVE or operation_id not in NOTHING_TO_FORBID
]
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
SEMANTIC = {"extract_features", "upload_dataset", "list_datasets", "list_extractions", "download_features"}
"""Operations that may refuse what their schema allows: a past date, an unreadable table, a foreign cursor, a 409."""


@cache
def document(url: str) -> Any:
    """The document of a running service."""
    return schemathesis.openapi.from_dict(httpx.get(f"{url}/api/openapi.json", trust_env=False).json())


# The service draws its trace ids in a thread of this process, which Hypothesis takes for a careless strategy.
@pytest.mark.filterwarnings("ignore:Do not use the `random` module:hypothesis.errors.HypothesisDeprecationWarning")
@pytest.mark.parametrize(("operation_id", "mode"), MODES)
def test_made_up_requests(live: LiveService, operation_id: str, mode: GenerationMode) -> None:
    """Answers to generated requests are documented ones; what the schema forbids is refused."""
    operation = document(live.url).find_operation_by_id(operation_id)
    checks = [*CHECKS, negative_data_rejection]
    if operation_id not in SEMANTIC:
        checks.append(positive_data_acceptance)

    @given(case=operation.as_strategy(generation_mode=mode))
    @BOUNDED
    def send(case: Case) -> None:
        case.call_and_validate(base_url=live.url, headers={"Authorization": f"Bearer {live.key}"}, checks=checks)

    send()
