"""What keeps a bot's process from all that is not its own: a uid, capabilities, Landlock. Performed in the child.

Standard library only; nothing here decides which bot gets what, and nothing here ever fails a start.
"""
