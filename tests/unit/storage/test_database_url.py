"""Database URLs as operators write them."""

from __future__ import annotations

import pytest

from botctl.errors import UsageError
from botctl.handover import DatabaseLogin, DatabaseTarget
from botctl.storage.url import format_database_url, parse_database_url


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+asyncpg"])
def test_all_parts_are_read_whatever_the_scheme(scheme: str) -> None:
    login = parse_database_url(f"{scheme}://ad%40min:p%2Fw%3A%23@db.example:6543/fle%20et?sslmode=require")
    assert login == DatabaseLogin(
        target=DatabaseTarget(host="db.example", port=6543, database="fle et", sslmode="require"),
        user="ad@min",
        password="p/w:#",
    )


def test_what_is_left_out_has_defaults() -> None:
    login = parse_database_url("postgresql://admin@db")
    assert login == DatabaseLogin(target=DatabaseTarget(host="db"), user="admin", password="")
    assert (login.target.port, login.target.database, login.target.sslmode) == (5432, "botctl", "prefer")


@pytest.mark.parametrize(
    "login",
    [
        DatabaseLogin(
            target=DatabaseTarget(host="127.0.0.1", port=1, sslmode="disable"), user="a b", password="/?#@:%"
        ),
        DatabaseLogin(target=DatabaseTarget(host="::1", database="ä"), user="u", password="p"),
        DatabaseLogin(target=DatabaseTarget(host="/run/postgresql", port=5433), user="u", password=""),
    ],
)
def test_a_formatted_url_is_read_back_as_the_same_login(login: DatabaseLogin) -> None:
    assert parse_database_url(format_database_url(login)) == login


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("mysql://u:hunter2@h/d", "scheme 'mysql'"),
        ("postgresql://:hunter2@h/d", "no user"),
        ("postgresql://u:hunter2@h:http/d", "not valid"),
        ("postgresql://u:hunter2@h/d?sslmode=maybe", "sslmode is 'maybe'"),
        ("postgresql://u:hunter2@h/d?sslrootcert=/x", "sslrootcert"),
        ("postgresql://u:hunter2@h/d?port=x", "port is 'x'"),
        ("postgresql://u:hunter2#x@h/d", "%23"),
        ("", "scheme ''"),
    ],
)
def test_a_wrong_url_is_refused_without_repeating_its_password(url: str, says: str) -> None:
    with pytest.raises(UsageError, match=says) as caught:
        parse_database_url(url)
    assert "hunter2" not in f"{caught.value} {caught.value.hint}"
