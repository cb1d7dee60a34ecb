"""`python -m gateway.porter --site S [--home H]`, see `gateway.porter.service`."""

from __future__ import annotations

from gateway.porter.service import main

if __name__ == "__main__":
    main()
