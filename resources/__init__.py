"""Adapters to the world. They know no use case, and only `bindings` knows Dagster."""
