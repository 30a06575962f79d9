"""python-telegram-bot's persistence, in PostgreSQL."""
