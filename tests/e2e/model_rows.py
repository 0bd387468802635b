"""The table of troubles: what each scenario of a model comes to for the client, the provider and the operator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Outcome = Literal["success", "error", "timeout", "rate_limited"]
NOTHING: Mapping[str, int] = {}

STATUSES = {"": 200, "model_unavailable": 503, "model_output_invalid": 503, "model_timeout": 504}
"""By error code; the empty one is success."""
ERRORS = {
    "model_unavailable": "ModelUnavailable",
    "model_output_invalid": "ModelOutputInvalid",
    "model_timeout": "ModelTimeout",
}
"""The `error.type` of the stage's span."""
UNREADABLE = (
    "ModelAPIError", "UnexpectedModelBehavior", "AttributeError", "TypeError", "RecursionError", "AnswerTooLarge",
)  # fmt: skip
"""What an answer that is no answer raises; which one is the SDK's business, and differs between the wire formats."""


@dataclass(frozen=True)
class Row:
    """One trouble and all that it comes to."""

    scenario: str
    code: str = ""
    """The problem's `error_code`; empty for 200."""
    words: str = ""
    """In the problem's `detail`, after the model's name."""
    attempts: tuple[tuple[str, ...], ...] = ()
    """For each request to the provider, in order, the `error.type` that its span may have; empty when it answered."""
    status_code: int | None = None
    """The provider's, on the spans of failed attempts."""
    failed: Mapping[str, int] = field(default_factory=dict[str, int])
    """model_requests_total by status, but for "success"."""
    retried: Mapping[str, int] = field(default_factory=dict[str, int])
    """model_retries_total by reason."""
    sent_back: Mapping[str, int] = field(default_factory=dict[str, int])
    """agent_output_retries_total by reason."""
    chats: int = 1
    """Requests of the agent, each of one or more attempts."""
    retry_after: tuple[int, int] | None = None
    """Seconds, at least and at most."""
    seconds: float = 30.0
    """MODEL_TIMEOUT_SECONDS."""
    told: bool = False
    """Whether the client is told which name of the model's own plan was wrong, as it is told those of a good plan."""

    @property
    def answered(self) -> int:
        """Requests that the provider answered well."""
        return self.attempts.count(())


def repeated(scenario: str, words: str, error: str, status: int | None, outcome: Outcome, reason: str) -> Row:
    """Tried three times, in vain."""
    timeout = outcome == "timeout"
    return Row(
        scenario, "model_timeout" if timeout else "model_unavailable", words, ((error,),) * 3, status,
        {outcome: 3}, {reason: 2}, retry_after=(30, 30),
    )  # fmt: skip


def mended(scenario: str, failures: int, error: str, status: int | None, outcome: Outcome, reason: str) -> Row:
    """Tried until it worked."""
    return Row(
        scenario, attempts=(*((error,),) * failures, ()), status_code=status, failed={outcome: failures},
        retried={reason: failures},
    )  # fmt: skip


def final(scenario: str, words: str, error: str, status: int, outcome: Outcome = "error", wait: int = 30) -> Row:
    """Not worth trying again soon."""
    return Row(
        scenario, "model_unavailable", words, ((error,),), status, {outcome: 1}, retry_after=(wait - 5, wait)
    )  # fmt: skip


def unreadable(scenario: str) -> Row:
    """The provider's success is no answer."""
    words = "gave an answer that cannot be read"
    return Row(scenario, "model_unavailable", words, (UNREADABLE,), failed={"error": 1}, retry_after=(30, 30))


def faulty(scenario: str, reason: str, *, told: bool = False) -> Row:
    """Sent back as often as MODEL_OUTPUT_RETRIES says, then given up."""
    return Row(
        scenario, "model_output_invalid", "did not propose a valid plan", ((),) * 4, sent_back={reason: 4}, chats=4,
        retry_after=(5, 5), told=told,
    )  # fmt: skip


def unwilling(scenario: str, words: str) -> Row:
    """Answered well, but with no plan, and not asked again."""
    return Row(scenario, "model_output_invalid", words, ((),), retry_after=(5, 5))


_LIMITED = "is limiting the service's requests"
_REFUSED = "refused the service's credentials"
_AWAY = "could not be reached"

ROWS: tuple[Row, ...] = (
    Row("good", attempts=((),)),
    Row("faulty-then-good", attempts=((), (), ()), sent_back={"unknown_column": 1, "schema": 1}, chats=3),
    faulty("unknown-column", "unknown_column", told=True),
    faulty("undecodable", "schema"),
    faulty("prose", "schema"),
    faulty("not-json", "schema"),
    faulty("deep-arguments", "schema"),
    Row(
        "wrong-tool", "model_output_invalid", "did not propose a valid plan", ((),) * 3, chats=3, retry_after=(5, 5),
        sent_back={"unknown_tool": 3},
    ),
    unwilling("length", "stopped at its token limit"),
    unwilling("refusal", "refused the request by its content filter"),
    unwilling("content-filter", "refused the request by its content filter"),
    final("status-400", "answered with HTTP status 400", "ModelRequestRejectedError", 400),
    final("context-length", "answered with HTTP status 400", "ModelContextWindowExceededError", 400),
    final("status-401", _REFUSED, "ModelAuthenticationError", 401),
    final("status-403", _REFUSED, "ModelAuthenticationError", 403),
    final("status-404", "answered with HTTP status 404", "ModelNotFoundError", 404),
    final("status-409", "answered with HTTP status 409", "ModelHTTPError", 409),
    final("quota", "has no quota left", "ModelQuotaExceededError", 429, "rate_limited"),
    final("status-429-long", _LIMITED, "ModelRateLimitError", 429, "rate_limited", wait=120),
    final("status-429-date", _LIMITED, "ModelRateLimitError", 429, "rate_limited", wait=120),
    final("status-503-long", "answered with HTTP status 503", "ModelUnavailableError", 503, wait=120),
    repeated("status-408", "did not answer in time", "ModelHTTPError", 408, "timeout", "timeout"),
    repeated("status-429", _LIMITED, "ModelRateLimitError", 429, "rate_limited", "rate_limited"),
    repeated("status-500", "answered with HTTP status 500", "ModelServerError", 500, "error", "server_error"),
    repeated("status-503", "answered with HTTP status 503", "ModelUnavailableError", 503, "error", "server_error"),
    repeated("html-502", "answered with HTTP status 502", "ModelServerError", 502, "error", "server_error"),
    repeated("reset", _AWAY, "ModelConnectionError", None, "error", "connection"),
    repeated("cut", _AWAY, "ModelConnectionError", None, "error", "connection"),
    mended("status-429-short", 1, "ModelRateLimitError", 429, "rate_limited", "rate_limited"),
    mended("status-500-once", 1, "ModelServerError", 500, "error", "server_error"),
    mended("status-500-twice", 2, "ModelServerError", 500, "error", "server_error"),
    mended("reset-once", 1, "ModelConnectionError", None, "error", "connection"),
    repeated("cut-stream", _AWAY, "ModelConnectionError", None, "error", "connection"),
    mended("cut-once", 1, "ModelConnectionError", None, "error", "connection"),
    *(
        Row(
            scenario, "model_timeout", "did not ", (("TimeoutError", "ModelTimeoutError"),), failed={"timeout": 1},
            retry_after=(30, 30), seconds=2.5,
        )
        for scenario in ("hang", "drip")
    ),
    *(
        unreadable(scenario)
        for scenario in (
            "huge", "zip-bomb", "html", "html-as-json", "empty", "null", "empty-object", "deep-body",
        )
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Relay:
    """Two models, or one and the built-in planner, and which of them plans."""

    primary: str
    fallback: str | None
    last_resort: Literal["builtin", "none"]
    plans: Literal["primary", "fallback", "builtin", ""]
    """Empty: none does."""
    asked: tuple[int, int]
    """Requests to the primary and to the fallback."""
    code: str = ""
    fell_back: tuple[str, ...] = ()
    """The models that could not plan and had a next one."""
    retry_after: tuple[int, int] | None = None
    tokens: tuple[int, int] = (0, 0)
    """Input and output of the requests that the provider answered, for failed planners too."""
    seconds: float = 30.0


RELAYS: tuple[Relay, ...] = (
    Relay("good", "good", "none", "primary", (1, 0), tokens=(100, 20)),
    Relay("status-500", "good", "none", "fallback", (3, 1), fell_back=("primary",), tokens=(100, 20)),
    Relay("status-401", "good", "builtin", "fallback", (1, 1), fell_back=("primary",), tokens=(100, 20)),
    Relay("unknown-column", "good", "none", "fallback", (4, 1), fell_back=("primary",), tokens=(500, 100)),
    Relay("refusal", "good", "none", "fallback", (1, 1), fell_back=("primary",), tokens=(200, 40)),
    Relay("hang", "good", "none", "fallback", (1, 1), fell_back=("primary",), tokens=(100, 20), seconds=5.0),
    Relay("status-401", None, "builtin", "builtin", (1, 0), fell_back=("primary",)),
    Relay("prose", "quota", "builtin", "builtin", (4, 1), fell_back=("primary", "fallback"), tokens=(400, 80)),
    Relay(
        "status-429-long", "status-503-long", "none", "", (1, 1), "model_unavailable", ("primary",), (115, 120)
    ),
    Relay(
        "status-429-long", "unknown-column", "none", "", (1, 4), "model_output_invalid", ("primary",), (115, 120),
        tokens=(400, 80),
    ),
    Relay("status-401", "hang", "none", "", (1, 1), "model_timeout", ("primary",), (30, 30), seconds=5.0),
)  # fmt: skip
