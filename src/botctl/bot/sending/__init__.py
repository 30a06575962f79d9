"""Calls to Telegram: recorded before they are made, in turn, and taken up after a crash."""
