"""The wanted fleet made the real one: registry, starts, what transitions mean, what is written down of them."""
