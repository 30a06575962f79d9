"""The outside world, emulated: a Telegram Bot API server, an OpenAI-compatible server, and the faults both can show.

It imports nothing else of this package and runs as ordinary HTTP servers (`python -m botctl.sandbox`).
"""
