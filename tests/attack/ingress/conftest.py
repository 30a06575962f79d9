"""A database and an ingress for each attack, with short patience."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from integration.conftest import migrated_database, migrated_template, postgres_admin_url
from support.ingress_stage import ingress

__all__ = ["migrated_template", "postgres_admin_url"]


@pytest.fixture(scope="module")
def furnished(postgres_admin_url: str, migrated_template: str) -> Iterator[Any]:
    with migrated_database(postgres_admin_url, migrated_template) as database:
        yield database


@pytest.fixture
async def stage(furnished: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    from botctl.storage.engine import connect

    admin = await connect(furnished.admin)
    await admin.execute("DELETE FROM inbox")
    await admin.close()
    monkeypatch.setattr("botctl.control.ingress.visitor.HEAD_TIME", 1.0)
    monkeypatch.setattr("botctl.control.ingress.app.BODY_TIME", 1.0)
    monkeypatch.setattr("botctl.control.ingress.crowd.MOST", 400)
    with ingress(furnished.control) as made:
        yield made
