"""The plant-floor process: takes readings in, keeps them, answers, and hands windows to the graph. No Dagster in it."""
