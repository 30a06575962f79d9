"""The settings of the ingress for webhooks: where it listens, what Telegram is told. Pure; reads no file.

Telegram's rules (core.telegram.org/bots/webhooks): HTTPS on port 443, 80, 88 or 8443. A Bot API server of one's own
takes HTTP and any port.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Any, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic_settings import NoDecode

PORTS = (443, 80, 88, 8443)
"""Ports that Telegram sends updates to."""

UNIX = "unix:"
_HOST_AND_PORT = re.compile(r"(?:\[[0-9a-fA-F:.]+\]|[\w.-]+):(\d{1,5})")


class WebhookSettings(BaseModel):
    """`[webhook]` of the settings."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    listen: str = Field(description="host:port, or unix:/path of a socket, that a reverse proxy passes requests to.")
    public_url: str = Field(description="What Telegram reaches it by; the bot's id is added as the path's last part.")
    certificate: Path | None = Field(default=None, description="PEM file with the chain, for HTTPS of its own.")
    key: Path | None = Field(default=None, description="PEM file with its private key.")
    upload_certificate: bool = Field(
        default=False, description="Give Telegram the certificate: for one that no authority has signed."
    )
    max_connections: Annotated[int, Field(ge=1, le=100)] = Field(
        default=40, description="At once from Telegram for one bot, as setWebhook's own default is."
    )
    allow_from: Annotated[tuple[IPv4Network | IPv6Network, ...], NoDecode] = Field(
        default=(), description="Networks that may connect, such as Telegram's; everybody when empty."
    )

    @field_validator("listen")
    @classmethod
    def _place(cls, value: str) -> str:
        if value.startswith(UNIX):
            if not value.removeprefix(UNIX).startswith("/") or len(value) > 100:
                raise ValueError("must be unix: and an absolute path of at most 95 characters")
            return value
        match = _HOST_AND_PORT.fullmatch(value)
        if match is None or not int(match[1]) <= 65535:
            raise ValueError("must be host:port, such as 127.0.0.1:8443, or unix:/path")
        return value

    @field_validator("public_url")
    @classmethod
    def _address(cls, value: str) -> str:
        try:
            parts = urlsplit(value)
            fits = parts.scheme in ("https", "http") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            fits = False
        if not fits:
            raise ValueError("must be a URL such as https://bots.example.org/telegram")
        if parts.query or parts.fragment or parts.username is not None:
            raise ValueError("must have no user, query or fragment")
        if not re.fullmatch(r"[\w./~-]*", parts.path, re.ASCII):
            raise ValueError("has a path with other characters than letters, digits and . / ~ - _")
        return value.rstrip("/")

    @field_validator("certificate", "key")
    @classmethod
    def _absolute(cls, value: Path | None) -> Path | None:
        return value.expanduser().absolute() if value is not None else None

    @field_validator("allow_from", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        return tuple(part for part in re.split(r"[,\s]+", value) if part) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.certificate is None) is not (self.key is None):
            raise ValueError("certificate and key belong together")
        if self.upload_certificate and self.certificate is None:
            raise ValueError("upload_certificate needs certificate and key")
        if self.allow_from and self.listen.startswith(UNIX):
            raise ValueError("allow_from needs a listen of host:port: who speaks through a socket has no address")
        return self

    @property
    def path(self) -> str:
        """The path of requests, without the last part."""
        return urlsplit(self.public_url).path

    @property
    def unacceptable(self) -> str:
        """Why Telegram itself will not send to this address; empty when it will."""
        parts = urlsplit(self.public_url)
        if parts.scheme != "https":
            return "Telegram sends updates by HTTPS only"
        if (parts.port or 443) not in PORTS:
            return f"Telegram sends updates to the ports {', '.join(str(port) for port in PORTS)} only"
        return ""
