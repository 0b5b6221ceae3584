-- name: begin_run
-- $1 shop_id, $2 reason, $3 epoch. The run's id. Runs of the shop that never ended are closed:
-- only their process's death can have left them open, since the lease is held.
WITH closed AS (
    UPDATE sync.runs
       SET outcome = 'abandoned', finished_at = now(), error = 'its process ended without a word'
     WHERE shop_id = $1 AND finished_at IS NULL)
INSERT INTO sync.runs (shop_id, reason, epoch) VALUES ($1, $2, $3) RETURNING run_id;

-- name: reserve_runs
-- $1 shop_ids. Each shop's id for a run that has no row until there is something to tell. Runs that
-- were left open are closed like at any beginning.
WITH closed AS (
    UPDATE sync.runs
       SET outcome = 'abandoned', finished_at = now(), error = 'its process ended without a word'
     WHERE shop_id = ANY ($1::text[]) AND finished_at IS NULL)
SELECT shop_id, nextval(pg_get_serial_sequence('sync.runs', 'run_id')) AS run_id
  FROM unnest($1::text[]) AS shop_id;

-- name: show_run
-- $1 run_id, $2 shop_id, $3 reason, $4 epoch, $5 seconds since it began, $6 owner. A reserved run has
-- its row, unless the shop's lease is another's: its next holder has closed what was left open.
INSERT INTO sync.runs (run_id, shop_id, reason, epoch, started_at) OVERRIDING SYSTEM VALUE
SELECT $1, $2, $3, $4, now() - make_interval(secs => $5)
  FROM sync.leases WHERE shop_id = $2 AND owner = $6 AND epoch = $4
ON CONFLICT (run_id) DO NOTHING;

-- name: end_run
-- $1 run_id, $2 outcome, $3 error, then the tally: requests, fetched, inserted, updated, stale, unchanged, rejected.
UPDATE sync.runs
   SET finished_at = now(), outcome = $2, error = $3, requests = $4, fetched = $5, inserted = $6,
       updated = $7, stale = $8, unchanged = $9, rejected = $10
 WHERE run_id = $1;

-- name: close_slices
-- The parameters are arrays, one element a slice, with at most one slice of a shop and stream; their
-- meaning is that of the names below. Only in the transaction that stores the slices' last rows.
-- Windows that are marked so are covered, every slice counts towards the shop's request rate, and
-- the ledger accounts for it: a quiet one by prolonging the quiet row right before it, if that
-- is the newest. A reserved run has its row once a slice of it is not quiet.
-- Each slice with a cursor comes back with its row in the ledger and how many polls that stands for.
-- Whoever repeats a closing, because its commit may have failed, gives both: a row that stands for as
-- many accounts for the slice already. A slice that has stored a page has drawn its row's id before.
WITH given AS (
    SELECT * FROM unnest(
        $1::bigint[], $2::text[], $3::text[], $4::timestamptz[], $5::timestamptz[], $6::timestamptz[],
        $7::boolean[], $8::integer[], $9::text[], $10::bigint[], $11::bigint[], $12::bigint[], $13::integer[],
        $14::bigint[], $15::bigint[], $16::bigint[], $17::bigint[], $18::bigint[], $19::bigint[], $20::bigint[],
        $21::timestamptz[], $22::bigint[], $23::bigint[], $24::bigint[])
      AS g (run_id, shop_id, stream, since, until, settled_until, covers, keys, verdict, first_total,
            last_total, distinct_ids, walks, requests, fetched, inserted, updated, stale, unchanged, rejected,
            started_at, slice_id, polls, drawn_id)
), closed AS MATERIALIZED (
    SELECT *, inserted + updated + stale + rejected = 0 AS is_same,
           inserted + updated + stale + rejected = 0 AND verdict IN ('clean', 'whole') AS is_quiet,
           coalesce((SELECT s.polls >= g.polls FROM sync.slices AS s
                      WHERE s.slice_id = g.slice_id AND s.shop_id = g.shop_id AND s.stream = g.stream),
                    false) AS is_counted
      FROM given AS g
), prolonged AS (
    UPDATE sync.slices AS s
       SET until = c.until, keys = s.keys + c.keys, polls = s.polls + 1, walks = s.walks + c.walks,
           first_total = s.first_total + c.first_total, last_total = s.last_total + c.last_total,
           distinct_ids = s.distinct_ids + c.distinct_ids, requests = s.requests + c.requests,
           fetched = s.fetched + c.fetched, unchanged = s.unchanged + c.unchanged, finished_at = now()
      FROM closed AS c
      JOIN sync.cursors AS u USING (shop_id, stream)
     WHERE c.is_quiet AND NOT c.is_counted AND s.slice_id = u.quiet_slice_id AND s.verdict = c.verdict
       AND (c.until IS NULL OR (s.since <= c.since AND s.until >= c.since AND s.until <= c.until))
    RETURNING s.shop_id, s.stream, s.slice_id, s.polls
), made AS (
    INSERT INTO sync.slices (
        slice_id, run_id, shop_id, stream, since, until, keys, verdict, first_total, last_total, distinct_ids,
        walks, requests, fetched, inserted, updated, stale, unchanged, rejected, started_at)
           OVERRIDING SYSTEM VALUE
    SELECT coalesce(drawn_id, nextval(pg_get_serial_sequence('sync.slices', 'slice_id'))),
           CASE WHEN NOT is_quiet THEN run_id END, shop_id, stream, since, until, keys, verdict, first_total,
           last_total, distinct_ids, walks, requests, fetched, inserted, updated, stale, unchanged, rejected,
           started_at
      FROM closed AS c
     WHERE NOT c.is_counted
       AND NOT EXISTS (SELECT FROM prolonged AS p WHERE p.shop_id = c.shop_id AND p.stream = c.stream)
    RETURNING slice_id, shop_id, stream, polls
), entered AS (
    SELECT slice_id, shop_id, stream, polls FROM made
    UNION ALL SELECT slice_id, shop_id, stream, polls FROM prolonged
), shown AS (
    INSERT INTO sync.runs (run_id, shop_id, reason, epoch, started_at) OVERRIDING SYSTEM VALUE
    SELECT c.run_id, c.shop_id, 'due', coalesce(l.epoch, 0), c.started_at
      FROM closed AS c
      LEFT JOIN sync.leases AS l USING (shop_id)
     WHERE NOT c.is_same AND NOT EXISTS (SELECT FROM sync.runs AS r WHERE r.run_id = c.run_id)
    ON CONFLICT (run_id) DO NOTHING)
UPDATE sync.cursors AS u
   SET covered = CASE WHEN c.covers THEN u.covered + tstzmultirange(tstzrange(c.since, c.until))
                      ELSE u.covered END,
       settled = CASE WHEN c.covers AND c.settled_until > c.since
                      THEN u.settled + tstzmultirange(tstzrange(c.since, least(c.until, c.settled_until)))
                      ELSE u.settled END,
       synced_until = CASE WHEN c.covers THEN upper(u.covered + tstzmultirange(tstzrange(c.since, c.until)))
                           ELSE u.synced_until END,
       quiet_slice_id = CASE WHEN m.slice_id IS NULL THEN u.quiet_slice_id
                             WHEN c.is_quiet THEN m.slice_id END,
       -- Bounded on both sides: exp() and products that underflow are errors.
       request_rate = greatest(u.request_rate, 1e-9)
                    * exp(-least(greatest(extract(epoch FROM now() - u.rated_at)::float8, 0), 600) / 60)
                    + CASE WHEN c.is_counted THEN 0 ELSE c.requests / 60.0::float8 END,
       rated_at = now()
  FROM closed AS c
  LEFT JOIN entered AS m USING (shop_id, stream)
 WHERE u.shop_id = c.shop_id AND u.stream = c.stream
RETURNING u.shop_id, u.stream, coalesce(m.slice_id, c.slice_id) AS slice_id,
          coalesce(m.polls, c.polls) AS polls, c.is_counted;

-- name: draw_slice_ids
-- $1 how many. Ids for rows of the ledger that are written later.
SELECT nextval(pg_get_serial_sequence('sync.slices', 'slice_id')) AS slice_id FROM generate_series(1, $1::integer);

-- name: note_aside
-- $1 slice_id, $2 run_id, $3 the run's reason, $4 shop_id, $5 stream, $6 verdict, $7 started_at, $8 fetched,
-- $9 inserted, $10 updated, $11 stale, $12 unchanged, $13 rejected. A read out of turn is accounted for in a row that sums up its like,
-- and its run has a row.
WITH shown AS (
    INSERT INTO sync.runs (run_id, shop_id, reason, epoch, started_at) OVERRIDING SYSTEM VALUE
    SELECT $2, $4, $3, coalesce((SELECT l.epoch FROM sync.leases AS l WHERE l.shop_id = $4), 0), $7
     WHERE NOT EXISTS (SELECT FROM sync.runs AS r WHERE r.run_id = $2)
    ON CONFLICT (run_id) DO NOTHING)
INSERT INTO sync.slices AS s (
    slice_id, run_id, shop_id, stream, keys, verdict, distinct_ids, walks, requests, fetched, inserted,
    updated, stale, unchanged, rejected, started_at)
       OVERRIDING SYSTEM VALUE
VALUES ($1, $2, $4, $5, $8::integer, $6, $8, 1, 1, $8, $9, $10, $11, $12, $13, $7)
ON CONFLICT (slice_id) DO UPDATE
   SET keys = s.keys + EXCLUDED.keys, distinct_ids = s.distinct_ids + EXCLUDED.distinct_ids,
       walks = s.walks + 1, requests = s.requests + 1, fetched = s.fetched + EXCLUDED.fetched,
       inserted = s.inserted + EXCLUDED.inserted, updated = s.updated + EXCLUDED.updated,
       stale = s.stale + EXCLUDED.stale, unchanged = s.unchanged + EXCLUDED.unchanged,
       rejected = s.rejected + EXCLUDED.rejected, finished_at = now();

-- name: record_reject
-- $1 shop_id, $2 stream, $3 record_id, $4 stored, $5 sqlstate, $6 reason, $7 raw, $8 fetched_at.
-- Nobody would ask for the stock of a deleted product again, so that is no reject.
INSERT INTO sync.rejects AS r (shop_id, stream, record_id, stored, sqlstate, reason, raw, fetched_at)
SELECT $1, $2, $3, $4, $5, $6, $7, $8
 WHERE $2 <> 'inventory'
    OR NOT EXISTS (SELECT FROM tiktok.products AS p
                    WHERE p.shop_id = $1 AND p.product_id = $3 AND p._deleted_at IS NOT NULL)
ON CONFLICT (shop_id, stream, record_id) DO UPDATE
   SET stored = EXCLUDED.stored, sqlstate = EXCLUDED.sqlstate, reason = EXCLUDED.reason, raw = EXCLUDED.raw,
       fetched_at = greatest(r.fetched_at, EXCLUDED.fetched_at), tries = r.tries + 1, last_seen = now();

-- name: forgive_rejects
-- $1 shop_id, $2 stream, $3 record ids that are stored completely now, $4 fetched_at. What was rejected of a
-- later answer stays so.
DELETE FROM sync.rejects
 WHERE shop_id = $1 AND stream = $2 AND record_id = ANY ($3::text[])
   AND (fetched_at <= $4 OR fetched_at IS NULL);

-- name: rejected_ids
-- $1 shop_id, $2 stream, $3 record ids. Those of them that stand in sync.rejects; NULL when none does.
SELECT array_agg(record_id)
  FROM sync.rejects
 WHERE shop_id = $1 AND stream = $2 AND record_id = ANY ($3::text[]);

-- name: count_rejects
-- $1 shop_id, $2 stream. Records that are missing from the tables.
SELECT count(*) FROM sync.rejects WHERE shop_id = $1 AND stream = $2 AND NOT stored;

-- name: has_rejects
-- $1 shop_id, $2 stream. Whether any record stands in sync.rejects.
SELECT EXISTS (SELECT FROM sync.rejects WHERE shop_id = $1 AND stream = $2);
