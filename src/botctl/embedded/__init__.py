"""PostgreSQL and Valkey from wheels, prepared to be run as supervised children. Never starts a process that stays."""
