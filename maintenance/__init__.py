"""The use case: from readings to maintenance advisories. Pure; swap it and the backbone still stands."""

import backbone  # noqa: F401 - which has compiled modules found before the first is imported
