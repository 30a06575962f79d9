"""The real supervision code under a virtual clock, with simulated children, pipes, launcher, operators and faults.

Nothing here starts a process, reads a clock or opens a file of the fleet; everything follows from a seed.
"""
