"""Mechanism of supervision: daemon, supervisor loop, launcher, forkserver, pipes, messages, child entry, signals.

Never imports sqlalchemy, asyncpg, redis, telegram, openai or fastapi; children are named by dotted path.
"""
