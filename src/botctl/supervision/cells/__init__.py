"""What the cells of the state machine do: one small function for each meaning that an event can have in a state. Pure.

Which cell holds which is decided by the table in `machine`. Every cell takes a record, an event and the time, and gives
a `Step`; its docstring is what `docs/state-machine.md` says of it.
"""
