"""Credentials, tokens and keys of bots: made, handed on, renewed, taken away."""
