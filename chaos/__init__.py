"""Chaos on real processes: a fleet is harmed from inside and outside while its witnesses are watched and talked to.

`scripts/chaos` is its command; `tests/e2e/test_chaos.py` a short version.
"""
