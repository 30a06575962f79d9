"""Real servers for the tests: one PostgreSQL and one Valkey a session, a migrated database of its own a module.

The servers are direct children of the test process and die with it, however it ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import itertools
import os
import resource
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from botctl.embedded.postgres import prepare_postgres
from botctl.embedded.probes import ping_postgres, ping_valkey
from botctl.embedded.valkey import prepare_valkey
from botctl.handover import DatabaseLogin, DatabaseTarget, ExecSpec
from botctl.storage import scram
from botctl.storage.bootstrap import prepare
from botctl.storage.engine import connect, login_engine, parse_database_url
from botctl.storage.url import format_database_url

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)
T = TypeVar("T")


def run_async(work: Coroutine[Any, Any, T]) -> T:
    """Run `work` to its end on an event loop of its own, also from where a loop already runs."""
    results: list[T] = []
    errors: list[BaseException] = []

    def target() -> None:
        try:
            results.append(asyncio.run(work))
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=target)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


class RunningServer:
    """A server started from its ExecSpec, as the supervisor would: direct child, death signal, dropped uid."""

    def __init__(self, spec: ExecSpec, is_ready: Callable[[], bool], *extra: str, timeout: float = 30.0) -> None:
        self.spec = spec
        self.log = tempfile.TemporaryFile()  # noqa: SIM115
        parent = os.getpid()

        def die_with_parent() -> None:
            _libc.prctl(_PR_SET_PDEATHSIG, spec.death_signal)
            if spec.data_limit:
                resource.setrlimit(resource.RLIMIT_DATA, (spec.data_limit, spec.data_limit))
            if os.getppid() != parent:
                os._exit(1)

        self.process = subprocess.Popen(
            [*spec.argv, *extra],
            env=spec.env,
            cwd=spec.cwd,
            user=spec.uid,
            group=spec.gid,
            extra_groups=None if spec.uid is None else [],
            umask=0o077,
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=die_with_parent,
        )
        deadline = time.monotonic() + timeout
        while not is_ready():
            if self.process.poll() is not None or time.monotonic() > deadline:
                output = self.output()
                self.stop()
                raise RuntimeError(f"{spec.name} does not answer:\n{output}")
            time.sleep(0.01)

    def output(self) -> str:
        """All the server has written so far."""
        size = os.fstat(self.log.fileno()).st_size
        return os.pread(self.log.fileno(), size, 0).decode("utf-8", "replace")

    def stop(self, number: int | None = None) -> int:
        """End the server, by its stop signal unless told, and return its exit code."""
        if self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(self.spec.stop_signal if number is None else number)
            try:
                self.process.wait(self.spec.stop_timeout)
            except subprocess.TimeoutExpired:
                self.process.send_signal(signal.SIGKILL)
                self.process.wait()
        return self.process.returncode


@contextlib.contextmanager
def server_folder() -> Iterator[Path]:
    """A short folder that an unprivileged server may enter; pytest's own are closed to it."""
    folder = Path(tempfile.mkdtemp(prefix="botctl-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def server_files() -> Iterator[Path]:
    """A folder for the servers that a test makes itself."""
    with server_folder() as folder:
        yield folder


@pytest.fixture
def running_server() -> Callable[[ExecSpec, str], RunningServer]:
    """Starts a server and waits until it answers at its URL; the test stops it."""

    def start(spec: ExecSpec, url: str) -> RunningServer:
        ping = ping_postgres if url.startswith("postgresql") else ping_valkey
        return RunningServer(spec, lambda: ping(url))

    return start


@pytest.fixture(scope="session")
def postgres_admin_url() -> Iterator[str]:
    """Superuser's URL of the session's PostgreSQL. Its databases are lost with the machine: fsync is off.

    BOTCTL_TEST_DATABASE_URL names another server to test against, for example one of an older version.
    """
    if external := os.environ.get("BOTCTL_TEST_DATABASE_URL"):
        yield external
        return
    with server_folder() as folder:
        made = prepare_postgres(folder / "postgres", max_connections=120)
        quick = ("-c", "fsync=off", "-c", "full_page_writes=off", "-c", "max_wal_size=256MB")
        server = RunningServer(made.spec, lambda: ping_postgres(made.admin_url), *quick)
        try:
            yield made.admin_url
        finally:
            server.stop()


@dataclass
class OwnPostgres:
    """A PostgreSQL of one test alone, which it may kill and start again."""

    folder: Path
    admin_url: str
    server: RunningServer

    def messages(self) -> str:
        """All the server has written once it ran, as far as its collector has got."""
        return "".join(file.read_text("utf-8") for file in sorted((self.folder / "log").glob("*.json")))

    def start_again(self) -> None:
        """Start it on the same folder; it keeps its port."""
        made = prepare_postgres(self.folder, max_connections=30)
        self.admin_url = made.admin_url
        self.server = RunningServer(made.spec, lambda: ping_postgres(made.admin_url))


@pytest.fixture
def new_postgres() -> Iterator[OwnPostgres]:
    """A PostgreSQL of this test alone, run as in production."""
    with server_folder() as folder:
        made = prepare_postgres(folder / "postgres", max_connections=30)
        own = OwnPostgres(
            folder / "postgres",
            made.admin_url,
            RunningServer(made.spec, lambda: ping_postgres(made.admin_url)),
        )
        try:
            yield own
        finally:
            own.server.stop()


@pytest.fixture(scope="session")
def valkey_admin_url() -> Iterator[str]:
    """Administrator's URL of the session's Valkey."""
    with server_folder() as folder:
        made = prepare_valkey(folder / "valkey")
        server = RunningServer(made.spec, lambda: ping_valkey(made.admin_url))
        try:
            yield made.admin_url
        finally:
            server.stop()


@dataclass(frozen=True)
class Database:
    """A migrated database and the logins to use it with."""

    admin: DatabaseLogin
    control: DatabaseLogin

    @property
    def target(self) -> DatabaseTarget:
        """Where it is, without a login."""
        return self.admin.target

    @property
    def admin_url(self) -> str:
        """The superuser's URL."""
        return format_database_url(self.admin)

    async def add_bot(self, bot_id: int, connection_limit: int = 6) -> DatabaseLogin:
        """Make the bot's login, as `control` does, and return it."""
        password = scram.new_password()
        connection = await connect(self.control)
        try:
            await connection.execute("SELECT botctl_admin.ensure_bot($1, $2)", bot_id, connection_limit)
            await connection.execute(
                "SELECT botctl_admin.set_bot_password($1, $2)", bot_id, scram.random_verifier(password)
            )
        finally:
            await connection.close()
        return DatabaseLogin(target=self.target, user=f"bot_{bot_id}", password=password)


async def _administer(admin_url: str, *statements: str) -> None:
    login = parse_database_url(admin_url)
    target = DatabaseTarget(
        host=login.target.host, port=login.target.port, database="postgres", sslmode=login.target.sslmode
    )
    connection = await connect(DatabaseLogin(target=target, user=login.user, password=login.password))
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


def _url_of(admin_url: str, name: str) -> str:
    login = parse_database_url(admin_url)
    target = DatabaseTarget(host=login.target.host, port=login.target.port, database=name, sslmode=login.target.sslmode)
    return format_database_url(DatabaseLogin(target=target, user=login.user, password=login.password))


async def drop_database(admin_url: str, name: str) -> None:
    """Drop a database together with the logins that name it."""
    await _administer(
        admin_url,
        f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)',
        f"""DO $$ DECLARE login name; BEGIN
            FOR login IN SELECT rolname FROM pg_roles WHERE shobj_description(oid, 'pg_authid') = 'botctl {name}' LOOP
                EXECUTE format('DROP ROLE %I', login);
            END LOOP;
        END $$""",
    )


@pytest.fixture(scope="session")
def migrated_template(postgres_admin_url: str) -> str:
    """Name of a database at head, to be copied."""
    run_async(prepare(_url_of(postgres_admin_url, "botctl_template")))
    return "botctl_template"


@contextlib.contextmanager
def migrated_database(admin_url: str, template: str) -> Iterator[Database]:
    """A copy of `template` under a new name, with its own logins; dropped afterwards."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    run_async(_administer(admin_url, f'CREATE DATABASE "{name}" TEMPLATE "{template}" STRATEGY file_copy'))
    try:
        url = _url_of(admin_url, name)
        yield Database(admin=parse_database_url(url), control=run_async(prepare(url)).control)
    finally:
        run_async(drop_database(admin_url, name))


@pytest.fixture(scope="module")
def database(postgres_admin_url: str, migrated_template: str) -> Iterator[Database]:
    """A fresh migrated database for this test module."""
    with migrated_database(postgres_admin_url, migrated_template) as made:
        yield made


@pytest.fixture
def new_database(postgres_admin_url: str, migrated_template: str) -> Iterator[Database]:
    """A fresh migrated database for this test alone."""
    with migrated_database(postgres_admin_url, migrated_template) as made:
        yield made


@pytest.fixture
async def engine(database: Database) -> AsyncIterator[AsyncEngine]:
    """An engine with the rights of `control`."""
    made = login_engine(database.control)
    yield made
    await made.dispose()


@pytest.fixture(scope="session")
def bot_ids() -> Iterator[int]:
    """Ids that no other test has."""
    return itertools.count(71_000)


@pytest.fixture
async def bot(database: Database, bot_ids: Iterator[int]) -> int:
    """Id of a bot that is in the registry; its name is `bot-ID`."""
    bot_id = next(bot_ids)
    admin = await connect(database.admin)
    await admin.execute("INSERT INTO bots (bot_id, name) VALUES ($1, $2)", bot_id, f"bot-{bot_id}")
    await admin.close()
    return bot_id


@pytest.fixture
def empty_database_url(postgres_admin_url: str) -> Iterator[str]:
    """Superuser's URL of a database that does not exist yet; dropped afterwards if it does then."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    yield _url_of(postgres_admin_url, name)
    run_async(drop_database(postgres_admin_url, name))
