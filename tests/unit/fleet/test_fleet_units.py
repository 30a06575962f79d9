"""Sizes and durations as operators write them."""

import pytest

from botctl.fleet.units import parse_duration, parse_size, size_text


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("4096", 4096),
        ("256M", 256 * 1024**2),
        ("1.5G", 1610612736),
        ("64k", 65536),
        ("1 GiB", 1024**3),
        ("2MB", 2 << 20),
    ],
)
def test_a_size_is_read_in_powers_of_1024(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "M", "-1M", "1X", "1,5G", "1e9"])
def test_what_is_no_size_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="such as 256M"):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("100ms", 0.1), ("30s", 30.0), ("1m30s", 90.0), ("1h", 3600.0), ("2d", 172800.0), ("1m 5s", 65.0)],
)
def test_a_duration_is_read_in_seconds(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "5", "s", "-1s", "1s1", "1 week"])
def test_what_is_no_duration_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="such as 30s"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("size", "text"), [(64 * 1024**2, "64M"), (1024**3, "1G"), (1536 * 1024**2, "1536M"), (0, "0"), (1000, "1000")]
)
def test_a_size_is_told_as_it_is_written(size: int, text: str) -> None:
    assert size_text(size) == text
