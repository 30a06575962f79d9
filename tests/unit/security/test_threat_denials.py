"""What a refusal means, by the words of PostgreSQL 15 to 18."""

from __future__ import annotations

import pytest

from botctl.security.threat.denials import target_of
from botctl.security.threat.observations import Target


@pytest.mark.parametrize(
    "message",
    [
        'new row violates row-level security policy for table "messages"',
        'new row violates row-level security policy (USING expression) for table "users"',
        'permission denied to set role "bot_8"',
        "permission denied to set session authorization",
        'permission denied to set session authorization "bot_8"',
        "permission denied for table bot_secrets",
        "permission denied for table bot_keys",
        "permission denied for table audit_seals",
        "permission denied for table pg_authid",
        "permission denied for function pg_read_file",
        "permission denied for function pg_ls_dir",
    ],
)
def test_what_no_handler_comes_to_by_mistake(message: str) -> None:
    assert target_of(message) is Target.FOREIGN


@pytest.mark.parametrize(
    "message",
    [
        "permission denied for table users",
        "permission denied for table bot_runs",
        "permission denied for schema public",
        "permission denied for schema botctl_internal",
        "permission denied for schema botctl_admin",
        "permission denied for language plpgsql",
        "permission denied for function pg_advisory_lock",
        "permission denied to create database",
        'permission denied to set parameter "log_statement"',
        "must be owner of table users",
        'he said: "new row violates row-level security policy"',
        "",
    ],
)
def test_what_may_be_a_mistake(message: str) -> None:
    assert target_of(message) is Target.POWER


def test_a_canary() -> None:
    assert target_of("a canary row was touched in messages") is Target.CANARY
