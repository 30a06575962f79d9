"""Logs with redaction, and metrics."""
