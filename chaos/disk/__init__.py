"""A disk that is full for a while under load: the data folder's, or only that of the logs.

`scripts/chaos disk` is its command; `tests/e2e/test_full_disk.py` a short version.
"""
