"""How the bot is: its heartbeat, what troubles it, what it uses up."""
