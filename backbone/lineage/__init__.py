"""OpenLineage 2-0-2 events from what is known of a run: pure functions of its history so far.

`history` holds what a run's story is made of, `translate` turns it into events, `facets` writes the parts of an event,
`naming` says what data sets are called, `secrets` keeps what nobody should read out of all of them.
"""
