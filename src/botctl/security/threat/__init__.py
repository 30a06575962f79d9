"""Threat rules: what has been observed of a bot becomes signals, scores, verdicts. Pure: time is an argument."""
