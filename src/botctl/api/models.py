"""Bodies of requests, and of errors. The bodies of answers are `control.views`."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from botctl.fleet import Fleet


class ApplyRequest(BaseModel):
    """Body of `POST /v1/apply`: a whole fleet, and how to read its file again at a reload."""

    model_config = ConfigDict(extra="forbid")

    fleet: Fleet
    fleet_path: str | None = None
    fleet_env: dict[str, str] = Field(default_factory=dict, repr=False)
    dry_run: bool = False


class RolloutRequest(BaseModel):
    """Body of `POST /v1/rollout`: `wave` as `5%` or `3`; `settle` in seconds, for `watch`."""

    model_config = ConfigDict(extra="forbid")

    wave: str
    watch: bool = False
    settle: float = Field(default=10.0, gt=0, le=3600)


class LoginRequest(BaseModel):
    """Body of `POST /v1/psql-login`."""

    model_config = ConfigDict(extra="forbid")

    bot: str


class RotateMasterRequest(BaseModel):
    """Body of `POST /v1/secrets/rotate-master`: the keys as the operator keeps them, if elsewhere than in the file."""

    model_config = ConfigDict(extra="forbid")

    keys: SecretStr = SecretStr("")


class RotateBotRequest(BaseModel):
    """Body of `POST /v1/secrets/rotate-bot`."""

    model_config = ConfigDict(extra="forbid")

    bot: str


class RotateCredentialsRequest(BaseModel):
    """Body of `POST /v1/secrets/rotate-credentials`; without a name every bot is meant."""

    model_config = ConfigDict(extra="forbid")

    bot: str = ""


class TokenRequest(BaseModel):
    """Body of `POST /v1/bots/NAME/token`."""

    model_config = ConfigDict(extra="forbid")

    token: SecretStr


class ErrorBody(BaseModel):
    """Body of every error. `code` is the exit code that the command line ends with."""

    error: str
    hint: str | None = None
    code: int
