-- name: begin_run
-- $1 shop_id, $2 reason, $3 epoch. The run's id. Runs of the shop that never ended are closed:
-- only their process's death can have left them open, since the lease is held.
WITH closed AS (
    UPDATE sync.runs
       SET outcome = 'abandoned', finished_at = now(), error = 'its process ended without a word'
     WHERE shop_id = $1 AND finished_at IS NULL)
INSERT INTO sync.runs (shop_id, reason, epoch) VALUES ($1, $2, $3) RETURNING run_id;

-- name: end_run
-- $1 run_id, $2 outcome, $3 error, then the tally: requests, fetched, inserted, updated, stale, unchanged, rejected.
UPDATE sync.runs
   SET finished_at = now(), outcome = $2, error = $3, requests = $4, fetched = $5, inserted = $6,
       updated = $7, stale = $8, unchanged = $9, rejected = $10
 WHERE run_id = $1;

-- name: record_slice
-- The ledger row of a slice; see the columns of sync.slices for the parameters, in their order.
INSERT INTO sync.slices (
    run_id, shop_id, stream, since, until, keys, verdict, first_total, last_total, distinct_ids, walks,
    requests, fetched, inserted, updated, stale, unchanged, rejected, started_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19);

-- name: record_reject
-- $1 shop_id, $2 stream, $3 record_id, $4 stored, $5 sqlstate, $6 reason, $7 raw.
INSERT INTO sync.rejects AS r (shop_id, stream, record_id, stored, sqlstate, reason, raw)
VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (shop_id, stream, record_id) DO UPDATE
   SET stored = EXCLUDED.stored, sqlstate = EXCLUDED.sqlstate, reason = EXCLUDED.reason, raw = EXCLUDED.raw,
       tries = r.tries + 1, last_seen = now();

-- name: forgive_rejects
-- $1 shop_id, $2 stream, $3 record ids that are stored completely now.
DELETE FROM sync.rejects WHERE shop_id = $1 AND stream = $2 AND record_id = ANY ($3::text[]);

-- name: count_rejects
-- $1 shop_id, $2 stream. Records that are missing from the tables.
SELECT count(*) FROM sync.rejects WHERE shop_id = $1 AND stream = $2 AND NOT stored;

-- name: has_rejects
-- $1 shop_id, $2 stream. Whether any record stands in sync.rejects.
SELECT EXISTS (SELECT FROM sync.rejects WHERE shop_id = $1 AND stream = $2);
