"""`botctl chaos`: a fleet under faults, with users who keep account of every answer.

Decisions are pure (scenario, account, timeline, report); stage, users, harm and run perform them.
"""
