"""Faults on demand, the same for both emulators: which calls are hit, and what happens to them."""
