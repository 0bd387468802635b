"""`POST /auth/token`: an API key in, a short-lived access token out."""

from __future__ import annotations

from litestar import post

from service.api.authentication import credential_of
from service.api.decoding import ApiRequest
from service.api.problems import PROTECTED, documented
from service.api.schemas import TokenAnswer, TokenView
from service.api.services import Config, Services


@post(
    "/auth/token",
    operation_id="create_token",
    tags=["auth"],
    summary="Exchange an API key for an access token",
    status_code=200,
    response_description="An access token that acts for the key's principal.",
    responses=documented(*PROTECTED),
)
async def create_token(request: ApiRequest, services: Services, config: Config) -> TokenAnswer:
    """Send the API key as `Authorization: Bearer` or in the API key header; there is no body.

    A token cannot be exchanged for another: that takes the key.
    """
    credential = credential_of(request.scope, config.api_key_header)
    token, principal = await services.authenticator.exchange(credential)
    scope = " ".join(sorted(principal.scopes))
    return TokenAnswer.of(TokenView(token, "Bearer", config.token_lifetime_seconds, scope))
