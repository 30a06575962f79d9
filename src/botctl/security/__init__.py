"""Secrets, hardening of processes, threat rules. Knows no database and no bus: who calls it brings and keeps the
data."""
