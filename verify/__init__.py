"""`digitq verify`: a workload with a ledger of its own, under faults, against a stack that it starts and breaks.

Walk: `cli` → `run` (start, load, break, settle, judge) → `workload` and `kinds` → `ledger` and `audit` → `report`.
It knows the product from outside: HTTP, processes and Redis keys. Nobody imports it but the command line, when asked.
"""
