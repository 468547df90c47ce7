"""The lowest floor: messages, paths, processes, the resource ledger, progress, the cache, and what the host can do.

Nothing here knows what a telephone is; every other floor stands on this one.
"""
