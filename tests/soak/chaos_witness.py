"""Sees what a comparison at the end cannot: steps back, two writers of a shop, coverage ahead of its rows.

Triggers in the database note every write with the process that made it, which the database knows by the
connection's name. What they note commits or rolls back with the write itself.
"""

from __future__ import annotations

from collections.abc import Iterable

import asyncpg

from sync.simulator.shops import Shop

# Of each statement that writes rows of a shop: who wrote, and, when it commits, whose the shop is. Until
# then the lease is locked for others by a rightful writer, so a stranger as its holder is an overlap.
_SCHEMA = """
CREATE SCHEMA witness;
CREATE TABLE witness.steps_back (id text, had timestamptz, got timestamptz);
CREATE TABLE witness.writes (
    place bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, shop_id text, what text, writer text,
    epoch bigint, holder text);
CREATE INDEX ON witness.writes (shop_id, epoch);

CREATE FUNCTION witness.note_step_back() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO witness.steps_back VALUES (to_jsonb(OLD) ->> TG_ARGV[0], OLD.update_time, NEW.update_time);
    RETURN NEW;
END $$;
CREATE TRIGGER witness BEFORE UPDATE ON tiktok.orders FOR EACH ROW
    WHEN (NEW.update_time < OLD.update_time) EXECUTE FUNCTION witness.note_step_back('order_id');
CREATE TRIGGER witness BEFORE UPDATE ON tiktok.products FOR EACH ROW
    WHEN (NEW.update_time < OLD.update_time) EXECUTE FUNCTION witness.note_step_back('product_id');

CREATE FUNCTION witness.note_write() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO witness.writes (shop_id, what, writer)
    SELECT DISTINCT r.shop_id, TG_TABLE_NAME, substring(current_setting('application_name') FROM 'pid (\\d+)')
      FROM written AS r;
    RETURN NULL;
END $$;
CREATE FUNCTION witness.note_holder() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE witness.writes AS w SET epoch = l.epoch, holder = substring(l.holder FROM 'pid (\\d+)')
      FROM sync.leases AS l WHERE w.place = NEW.place AND l.shop_id = NEW.shop_id;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT ON witness.writes DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION witness.note_holder();
"""
_WRITTEN = ("tiktok.orders", "tiktok.products", "tiktok.inventory", "tiktok.warehouses", "sync.slices")
_WATCH = """
CREATE TRIGGER witness_{event} AFTER {event} ON {table} REFERENCING NEW TABLE AS written
    FOR EACH STATEMENT EXECUTE FUNCTION witness.note_write();
"""
_STEPS_BACK = "SELECT id || ' went back from ' || had || ' to ' || got FROM witness.steps_back"
_STRANGERS = """
SELECT format('%s of shop %s was written by process %s while the shop was that of %s (epoch %s)',
              what, shop_id, coalesce(writer, 'unknown'), coalesce(holder, 'nobody'), epoch)
  FROM witness.writes WHERE writer IS DISTINCT FROM holder
"""
# Places are given before the commit, but a later epoch cannot begin before an earlier one's commits.
_OVERLAPS = """
SELECT format('shop %s was written in epoch %s after epoch %s had begun', shop_id, epoch, newest)
  FROM (SELECT *, max(epoch) OVER (PARTITION BY shop_id ORDER BY place) AS newest FROM witness.writes) AS w
 WHERE epoch < newest
UNION ALL
SELECT format('shop %s had the writers %s in epoch %s', shop_id, string_agg(DISTINCT writer, ', '), epoch)
  FROM witness.writes GROUP BY shop_id, epoch HAVING count(DISTINCT writer) > 1
"""
_AHEAD = """
SELECT format('{stream} %s of shop %s, changed at %s, is covered and not stored', t.id, $1::text, t.at)
  FROM unnest($2::text[], $3::float8[]) AS u (id, epoch)
 CROSS JOIN LATERAL (SELECT u.id, to_timestamp(u.epoch) AS at) AS t
  JOIN sync.cursors AS c ON c.shop_id = $1 AND c.stream = '{stream}' AND c.settled @> t.at
  LEFT JOIN tiktok.{stream} AS s ON s.shop_id = $1 AND s.{key} = t.id
 WHERE s.update_time IS NULL OR s.update_time < t.at
"""


async def install_witness(connection: asyncpg.Connection) -> None:
    """From now on the database notes who writes what."""
    await connection.execute(_SCHEMA)
    for table in _WRITTEN:
        for event in ("insert", "update"):
            await connection.execute(_WATCH.format(event=event, table=table))


async def hear_witness(connection: asyncpg.Connection) -> list[str]:
    """One line for each step back and each write of a shop by whoever did not hold it."""
    found = []
    for question in (_STEPS_BACK, _STRANGERS, _OVERLAPS):
        found += [str(row[0]) for row in await connection.fetch(question)]
    return found


async def covered_and_missing(connection: asyncpg.Connection, shops: Iterable[Shop]) -> list[str]:
    """One line for each record whose newest version lies in what is settled, and is not stored.

    The truth is taken before the database is asked: what moves meanwhile only leaves what is settled.
    """
    found = []
    for shop in shops:
        for stream, key, rows in (
            ("orders", "order_id", shop.orders.newest.values()),
            ("products", "product_id", shop.product_rows.newest.values()),
        ):
            truth = [(str(row.id), float(row.update_time)) for row in rows]
            ids, times = [one for one, _ in truth], [at for _, at in truth]
            question = _AHEAD.format(stream=stream, key=key)
            found += [str(r[0]) for r in await connection.fetch(question, shop.shop_id, ids, times)]
    return found
