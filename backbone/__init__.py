"""The integration logic a company keeps: contracts, windows, conduits, ports and errors.

Nothing here does I/O, reads a clock or knows Dagster; time and bytes are arguments.
"""
