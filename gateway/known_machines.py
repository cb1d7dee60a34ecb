"""The machines that a gateway has heard of, and who sends for them, as many as its site file has room for.

A pattern such as `F-*` lets in any number of names, and whoever sends chooses them; each takes memory for ids and
features, and room in what is written of them, for good.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

SENDERS = 4
"""For each machine, on average: a key of HTTP, or a node of Sparkplug B, is a sender for each machine it speaks for."""


def machine_of(sender: str) -> str:
    """The machine that a sender names, where it is one of MQTT or HTTP; of another it is no machine's name, or none
    that a fleet has.
    """
    return sender.split(":", 2)[-1] if sender.startswith("http:") else sender


class KnownMachines:
    """Those of each fleet.

    Args:
        most: fleet → how many there may be. What is known already may be more.
    """

    def __init__(self, most: Mapping[str, int]) -> None:
        self._most = dict(most)
        self._machines: dict[str, set[str]] = {fleet: set() for fleet in most}
        self._senders: set[str] = set()
        self._most_senders = SENDERS * sum(most.values())

    def admits(self, fleet: str, machine: str) -> bool:
        """Whether a machine is known, or is so from now on; False: there are as many already as there may be."""
        known = self._machines[fleet]
        if machine in known:
            return True
        if len(known) >= self._most[fleet]:
            return False
        known.add(machine)
        return True

    def admits_sender(self, sender: str) -> bool:
        """The same of a sender, of whatever fleet's machines."""
        if sender in self._senders:
            return True
        if len(self._senders) >= self._most_senders:
            return False
        self._senders.add(sender)
        return True

    def know(self, fleet: str, machines: Iterable[str]) -> None:
        """Machines whose readings were kept before."""
        self._machines[fleet].update(machines)

    def know_senders(self, senders: Iterable[str]) -> None:
        self._senders.update(senders)

    def told(self, fleet: str) -> Mapping[str, int]:
        """For people: how many there are, and may be."""
        return {"machines": len(self._machines[fleet]), "machines_at_most": self._most[fleet]}

    def senders_told(self) -> Mapping[str, int]:
        return {"known": len(self._senders), "at_most": self._most_senders}
