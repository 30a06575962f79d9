"""The ingress: updates that Telegram sends (webhooks), for all bots of the fleet."""
