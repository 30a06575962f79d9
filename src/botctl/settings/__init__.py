"""The operator's settings: `BOTCTL_*` variables over a TOML file.

`places` is light (standard library only) and tells where things lie; `model` and `load` bring in pydantic.
"""
