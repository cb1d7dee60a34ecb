"""Lineage on its way out: the relay of events, the transports it sends through, and the index that traces read."""
