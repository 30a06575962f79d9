"""The event bus: typed events, the outbox's relay, the router, mailboxes and the three logs, on Redis Streams."""
