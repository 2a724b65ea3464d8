"""`digitq verify`: loads a stack, injects faults, and checks a ledger of every accepted picture.

Flow: `cli` → `run` (start, load, break, settle, judge) → `workload` and `kinds` → `ledger` and `audit` → `report`.
It treats the product as a black box: HTTP, processes and Redis keys. Only the command line imports it, on demand.
"""
