"""Lets things happen in the shops while somebody reads them: at random by weight, or by name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from sync.simulator.changes import Tell
from sync.simulator.options import SimulatorOptions
from sync.simulator.order_changes import OrderChanges
from sync.simulator.product_changes import ProductChanges
from sync.simulator.shops import Shop
from sync.simulator.world import World

Kind = Callable[[Shop], str]


class Mutations(OrderChanges, ProductChanges):
    """Every kind of change, with a count of those that were made."""

    def __init__(
        self, world: World, *, now: Callable[[], float], options: Callable[[], SimulatorOptions], tell: Tell
    ) -> None:
        super().__init__(world, now=now, options=options, tell=tell)
        self.counts: Counter[str] = Counter()
        self._kinds: tuple[tuple[Kind, int], ...] = (
            (self.advance_order, 40),
            (self.place_order, 18),
            (self.cancel_order, 5),
            (self.move_stock, 22),
            (self.edit_product, 8),
            (self.create_product, 3),
            (self.change_skus, 3),
            (self.delete_product, 1),
        )
        self._silent: tuple[Kind, ...] = (self.edit_address, self.edit_note, self.repack_order)
        asked = (*(kind for kind, _ in self._kinds), *self._silent, self.pay_order, self.change_category)
        self._by_name = {kind.__name__: kind for kind in asked}

    def mutate(self) -> str:
        """One change of a random kind in a random shop; returns the kind's name."""
        silent = self._options().silent_edits / len(self._silent)
        kinds = [*(kind for kind, _ in self._kinds), *self._silent]
        weights = [*(weight for _, weight in self._kinds), *(silent for _ in self._silent)]
        shops = list(self._world.shops.values())
        while True:
            (kind,) = self._rng.choices(kinds, weights)
            if kind(self._rng.choice(shops)):
                self.counts[kind.__name__] += 1
                return kind.__name__

    def make(self, name: str, shop: Shop) -> str:
        """One change of the named kind in this shop; returns what changed, "" if nothing could.

        Raises ValueError for a name that is no kind.
        """
        kind = self._by_name.get(name)
        if kind is None:
            raise ValueError(f"no such kind: {name!r}; there are {', '.join(self._by_name)}")
        changed = kind(shop)
        if changed:
            self.counts[name] += 1
        return changed
