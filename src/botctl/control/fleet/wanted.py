"""From a bot's entry in the fleet to what its supervisor and its process are given. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import msgspec

from botctl.control.ingress.secrets import address_of
from botctl.control.ports import Confines, Passwords, WantedBot
from botctl.fleet import BotSpec, Fleet
from botctl.fleet.model import Updates
from botctl.handover import BotConfig, DatabaseTarget, WebhookTarget
from botctl.observability.redaction import Redactor
from botctl.settings.places import DataFolder

Keys = tuple[tuple[int, str], ...]
"""Data keys: each one's id, and itself in base64."""

_LIVE_LIMITS = ("concurrent_chats", "attempts")
"""Limits that the bot itself keeps to."""

_WITHOUT_RESTART = ("log_level", "limits", "restart", "recycle", "enabled", "threats")
"""Keys that a running bot adopts, or that its supervisor keeps to. A limit the kernel refuses to change restarts it."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What every bot of this daemon is told alike. `redis_url` has no userinfo."""

    database: DatabaseTarget
    redis_url: str
    namespace: str
    telegram_base_url: str
    openai_api_key: str
    openai_base_url: str
    log_format: str
    data_dir: str = ""
    private: tuple[str, ...] = ()
    uid_base: int = 0
    uid_count: int = 0
    canary: str = ""
    """SHA-256 of the word in the canaries; empty as long as it is not known."""
    webhook: WebhookTarget | None = None
    """For all bots, without their secrets; None when there is no ingress."""


def wanted_bot(
    spec: BotSpec,
    fleet: Fleet,
    around: Surroundings,
    passwords: Passwords | None,
    keys: Keys = (),
    ignored: Mapping[int, float] = MappingProxyType({}),
    webhook_secret: str = "",
) -> WantedBot:
    """One bot for the supervisor; `passwords` None keeps those it has, and so do no keys.

    `ignored` are users that it sets aside, and until when.
    """
    webhook = _webhook(spec, around, webhook_secret)
    aside = {str(user_id): until for user_id, until in sorted(ignored.items())}
    config = BotConfig(
        spec=msgspec.Raw(spec.model_dump_json().encode()),
        bot_id=spec.bot_id,
        folder=fleet.folder if spec.handlers is not None else None,
        database=around.database,
        redis_url=around.redis_url,
        namespace=around.namespace,
        telegram_base_url=around.telegram_base_url,
        openai_api_key=around.openai_api_key if _needs_the_fleets_key(spec) else "",
        openai_base_url=around.openai_base_url,
        log_format=around.log_format,
        ignored=aside,
        canary=around.canary,
        webhook=webhook,
    )
    encoded = msgspec.json.encode(config)
    return WantedBot(
        name=spec.name,
        bot_id=spec.bot_id,
        digest=digest(encoded),
        config=encoded,
        restart=spec.restart.model_dump()
        | {
            "memory_soft": spec.limits.soft,
            "max_age": spec.recycle.age,
            "max_updates": spec.recycle.updates,
        },
        live={
            "log_level": spec.log_level,
            **{key: getattr(spec.limits, key) for key in _LIVE_LIMITS},
            "ignored": aside,
            "canary": around.canary,
            "webhook": msgspec.to_builtins(webhook),
        },
        memory=spec.limits.memory,
        open_files=spec.limits.open_files,
        file_size=spec.limits.file_size,
        cpu=spec.limits.cpu,
        processes=spec.limits.processes,
        enabled=spec.enabled,
        secrets=(*_secrets(spec, around), *(material for _, material in keys), *filter(None, (webhook_secret,))),
        passwords=passwords,
        keys=keys,
        isolation=_confines(spec, fleet, around),
    )


def _webhook(spec: BotSpec, around: Surroundings, secret: str) -> WebhookTarget | None:
    """Where Telegram sends its updates."""
    if spec.updates is not Updates.WEBHOOK or around.webhook is None or not secret:
        return None
    url = address_of(around.webhook.url, spec.bot_id, secret, around.webhook.certificate)
    return msgspec.structs.replace(around.webhook, url=url, secret=secret)


def _confines(spec: BotSpec, fleet: Fleet, around: Surroundings) -> Confines:
    folder = Path(fleet.folder or "/")
    return Confines(
        level=spec.isolation.value,
        home=str(DataFolder(Path(around.data_dir)).bots / str(spec.bot_id)) if around.data_dir else "",
        data=around.data_dir,
        folder=str(folder) if fleet.folder is not None and spec.handlers is not None else "",
        private=(*fleet.private, *around.private),
        read=tuple(str(folder / path) for path in spec.files.read),
        write=tuple(str(folder / path) for path in spec.files.write),
        listen=spec.files.listen,
        uid_base=around.uid_base,
        uid_count=around.uid_count,
    )


def digest(config: bytes) -> str:
    """Changes exactly when the bot must be restarted to follow its configuration; the order of a set is no change."""
    document = json.loads(config)
    for key in ("ignored", "canary", "webhook"):
        document.pop(key, None)
    spec = document["spec"]
    for key in _WITHOUT_RESTART:
        spec.pop(key, None)
    for key in ("allow", "deny"):
        spec["access"][key] = sorted(spec["access"][key])
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def public_config(spec: BotSpec) -> dict[str, Any]:
    """The bot's entry without any secret, for the registry and for people."""
    document: dict[str, Any] = json.loads(spec.model_dump_json(exclude={"token": True, "assistant": {"api_key"}}))
    if spec.proxy is not None:
        document["proxy"] = public_url(spec.proxy)
    if spec.assistant is not None and spec.assistant.base_url is not None:
        document["assistant"]["base_url"] = public_url(spec.assistant.base_url)
    for key in ("allow", "deny"):
        document["access"][key] = sorted(document["access"][key])
    redactor = Redactor(_own_secrets(spec))
    return {key: _redacted(value, redactor) for key, value in document.items()}


def _redacted(value: Any, redactor: Redactor) -> Any:
    """With secrets taken out of every text: an instruction may quote a key."""
    if isinstance(value, str):
        return redactor.redact(value)
    if isinstance(value, list):
        return [_redacted(one, redactor) for one in value]
    if isinstance(value, dict):
        return {key: _redacted(one, redactor) for key, one in value.items()}
    return value


def fingerprint(token: str) -> str:
    """Tells whether a token has changed, and nothing of the token."""
    return hashlib.sha256(token.encode()).hexdigest()[:16]


def without_userinfo(url: str) -> str:
    """The URL with user and password taken out."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def public_url(url: str) -> str:
    """The URL without userinfo, query and fragment, where keys may stand."""
    return urlsplit(without_userinfo(url))._replace(query="", fragment="").geturl()


def _needs_the_fleets_key(spec: BotSpec) -> bool:
    """Nobody is given a completion key that it has no use for."""
    return spec.assistant is not None and spec.assistant.api_key is None


def _secrets(spec: BotSpec, around: Surroundings) -> tuple[str, ...]:
    fleets = around.openai_api_key if _needs_the_fleets_key(spec) else ""
    return tuple(secret for secret in (*_own_secrets(spec), fleets) if secret)


def _own_secrets(spec: BotSpec) -> list[str]:
    found = [spec.token.get_secret_value()]
    urls = [spec.proxy]
    if spec.assistant is not None:
        urls.append(spec.assistant.base_url)
        if spec.assistant.api_key is not None:
            found.append(spec.assistant.api_key.get_secret_value())
    for url in filter(None, urls):
        parts = urlsplit(url)
        found += [unquote(parts.password or ""), *(value for _, value in parse_qsl(parts.query))]
    return [secret for secret in found if secret]
