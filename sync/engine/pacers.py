"""The pacers of a process's shops: what one has learnt outlasts a run."""

from __future__ import annotations

from collections import OrderedDict

from sync.store.leases import Lease
from sync.tiktok.limiter import Pacer

_MOST = 20_000


class Pacers:
    """A pacer for each shop, as long as it is used now and then."""

    def __init__(self, requests_per_second: float) -> None:
        self._requests_per_second = requests_per_second
        # Last used last.
        self._pacers: OrderedDict[str, Pacer] = OrderedDict()

    def of(self, lease: Lease) -> Pacer:
        """The pacer of the lease's shop, which knows what the lease says of its rate."""
        pacer = self._pacers.get(lease.shop_id)
        if pacer is None:
            pacer = Pacer(self._requests_per_second, learned_rate=lease.learned_rate)
            self._pacers[lease.shop_id] = pacer
        elif pacer.learned_rate != lease.learned_rate:
            # Another process has learnt better meanwhile. What this one has sent and was told still counts.
            pacer.adopt(lease.learned_rate)
        self._pacers.move_to_end(lease.shop_id)
        if len(self._pacers) > _MOST:
            self._pacers.popitem(last=False)
        return pacer
