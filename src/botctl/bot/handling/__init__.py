"""One attempt at a row of the inbox, from its begin to its commit, and who is to blame for an end."""
