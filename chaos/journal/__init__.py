"""kill -9 at each step of the send journal, hit for certain, and the rows and messages that must come of it.

`scripts/chaos journal` is its command; `tests/integration/bot/test_bot_journal_kills.py` a short version.
"""
