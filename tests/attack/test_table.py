from __future__ import annotations

from attack import table


def test_the_document_tells_of_the_declared_cases() -> None:
    """If this fails: `python tests/attack/table.py`."""
    text = table.DOCUMENT.read_text()
    assert "<!-- attacks: processes -->" in text
    assert table.renewed(text) == text
