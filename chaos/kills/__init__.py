"""A thousand times kill -9 of bots under load, with servers, supervisor, Telegram and model failing in between.

`scripts/chaos kills` is its command; `tests/e2e/test_kills.py` a short version.
"""
