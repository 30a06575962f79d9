"""PURE. States × events -> (record, actions); restart limits, backoff, the fleet breaker.

No clock, no process, no logging: time is an argument, and a decision is a value that `runtime` performs.
"""
