"""Handlers with every fault a bot can have; copied beside the fleet file of the tests of failure classes."""
