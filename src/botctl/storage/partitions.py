"""Keeps the audit log's monthly partitions ahead of time. Never drops one: that is retention's decision."""

from __future__ import annotations

from sqlalchemy.ext.asyncio import AsyncConnection

MONTHS_AHEAD = 2
"""Partitions made beyond the current month. Rows of a month without one go to the DEFAULT partition and are moved."""


async def ensure_audit_partitions(connection: AsyncConnection, months: int = MONTHS_AHEAD) -> int:
    """Make the partitions that are missing; how many were made. Safe to call at any time, by `control`."""
    result = await connection.exec_driver_sql("SELECT botctl_internal.ensure_audit_partitions($1)", (months,))
    return int(result.scalar_one())
