"""Mailboxes, shared mailboxes and logs as their readers see them, and how far behind they are."""
