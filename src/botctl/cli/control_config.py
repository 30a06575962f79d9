"""What the daemon hands to `control`: its settings, and what set-up has found. Pure."""

from __future__ import annotations

from pathlib import Path

from botctl import __version__
from botctl.cli.boot import BootPayload
from botctl.handover import ControlConfig, SetupResult


def config_of_control(
    payload: BootPayload,
    setup: SetupResult,
    *,
    redis_url: str,
    data_dir: Path,
    socket: Path,
    api_token: str,
    master_keys: str,
) -> ControlConfig:
    """Of the first `control`; a later one is told besides what the one before has applied."""
    return ControlConfig(
        database=setup.control,
        redis_url=redis_url,
        own_redis=not payload.redis_url,
        own_database=not payload.database_url,
        namespace=payload.namespace,
        data_dir=str(data_dir),
        socket=str(socket),
        version=__version__,
        fleet=payload.fleet,
        fleet_path=payload.fleet_path,
        fleet_env=payload.fleet_env,
        telegram_base_url=payload.telegram_base_url,
        openai_api_key=payload.openai_api_key,
        openai_base_url=payload.openai_base_url,
        master_keys=master_keys,
        master_source=payload.master_source,
        api_listen=payload.api_listen,
        api_token=api_token,
        uid_base=payload.uid_base,
        uid_count=payload.uid_count,
        private=payload.private,
        log_format=payload.log_format,
        log_level=payload.log_level,
        options=payload.control_options,
    )
