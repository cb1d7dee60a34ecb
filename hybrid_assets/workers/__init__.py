"""Programs that run at a compute target, with no Dagster in them."""
