"""For what is written down while nothing comes."""

from __future__ import annotations


class NothingUnderWay:
    """See `gateway.retention.UnderWay`; features have all that there is, and so has the disk."""

    def take_all(self) -> None:
        pass

    async def all_settled(self) -> bool:
        return True
