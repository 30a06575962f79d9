"""An emulator of the Telegram Bot API with an HTTP API for the one who plays the users."""
