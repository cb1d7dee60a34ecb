"""The plant-floor process: takes readings in, keeps them, answers, and hands windows to the graph. No Dagster in it."""

import backbone  # noqa: F401 - which has compiled modules found before the first is imported
