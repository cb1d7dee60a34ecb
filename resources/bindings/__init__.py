"""Dagster's view of the adapters: the only package below the assets that knows Dagster."""
