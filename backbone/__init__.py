"""The integration logic a company keeps: contracts, windows, conduits, ports and errors.

Nothing here does I/O, reads a clock or knows Dagster; time and bytes are arguments. Files are read only to find
compiled modules, as Python itself does to find modules.
"""

from backbone.compiled_modules import prefer_compiled

prefer_compiled()
