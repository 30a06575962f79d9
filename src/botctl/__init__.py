"""botctl runs a fleet of Telegram AI bots: one supervised process per bot."""

__version__ = "0.1.0"
