"""The model of a bot: its token, its access list, its restart policy."""

import pytest
from pydantic import ValidationError

from botctl.fleet import Access, BotSpec, Restart


@pytest.mark.parametrize("token", ["1:abc", "123456789:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw_-"])
def test_the_bot_id_is_the_number_before_the_colon(token: str) -> None:
    assert BotSpec.model_validate({"name": "a", "token": token}).bot_id == int(token.split(":")[0])


@pytest.mark.parametrize("token", ["", "abc", "0:abc", "1:", "1:a b", "-1:abc", "1:abc\n", "9999999999999999999:abc"])
def test_what_has_not_the_form_of_a_token_is_refused(token: str) -> None:
    with pytest.raises(ValidationError, match="BotFather"):
        BotSpec.model_validate({"name": "a", "token": token})


@pytest.mark.parametrize("name", ["", "A", "a b", "-a", "a" * 33, "../a", "a.b"])
def test_a_name_that_is_no_safe_file_name_is_refused(name: str) -> None:
    with pytest.raises(ValidationError):
        BotSpec.model_validate({"name": name, "token": "1:abc"})


@pytest.mark.parametrize(
    "name", ["control", "daemon", "deaths", "setup", "forkserver", "postgres", "valkey", "sandbox"]
)
def test_a_name_of_a_log_of_ours_is_refused(name: str) -> None:
    """They would share a log file."""
    with pytest.raises(ValidationError, match=f"'{name}' is a name of botctl's own"):
        BotSpec.model_validate({"name": name, "token": "1:abc"})


@pytest.mark.parametrize(
    "url", ["user:secret@host:3128", "host:3128", "socks5://host:1", "http://", "http://host:port", "http://h/a b", ""]
)
@pytest.mark.parametrize("key", ["proxy", "base_url"])
def test_what_is_no_http_url_is_refused_without_being_told(key: str, url: str) -> None:
    entry = {"proxy": url} if key == "proxy" else {"assistant": {"base_url": url}}
    with pytest.raises(ValidationError) as caught:
        BotSpec.model_validate({"name": "a", "token": "1:abc", **entry})
    (fault,) = caught.value.errors()
    assert fault["loc"][-1] == key
    assert "begins with http:// or https://" in fault["msg"]
    assert "secret" not in fault["msg"]


def test_access_admits_everybody_but_the_denied_unless_some_are_allowed() -> None:
    assert Access().admits(5)
    assert Access().admits(None)
    assert not Access(deny=frozenset({5})).admits(5)
    assert Access(allow=frozenset({5})).admits(5)
    assert not Access(allow=frozenset({5})).admits(6)
    assert not Access(allow=frozenset({5}), deny=frozenset({5})).admits(5)


def test_a_first_delay_above_the_greatest_is_refused() -> None:
    with pytest.raises(ValidationError, match="longer than max_delay"):
        Restart(first_delay=60.0, max_delay=30.0)


def test_the_soft_memory_limit_is_a_share_of_the_hard_one_and_never_above_it():
    bot = BotSpec.model_validate({"name": "a", "token": "7:secret", "limits": {"memory": "100M"}})
    assert bot.limits.soft == 80 * 1024**2
    with pytest.raises(ValueError, match="memory_soft is more than memory"):
        BotSpec.model_validate({"name": "a", "token": "7:secret", "limits": {"memory": "100M", "memory_soft": "101M"}})
