"""The bot's side of the bus: events, requests and work shared with other bots."""
