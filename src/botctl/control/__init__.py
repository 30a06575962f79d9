"""The control process: applies the fleet, keeps the registry, records lifecycles, routes events, serves the API.

Bots run on without it; it holds no message and answers no user.
"""
