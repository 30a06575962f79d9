"""The assistant: answers plain text with a completion of the conversation so far."""
