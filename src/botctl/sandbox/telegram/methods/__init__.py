"""The methods of the Bot API, by subject. `registry.lookup` finds one; `load.py` lists the modules."""
