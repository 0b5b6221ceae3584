-- name: gaps
-- $1 shop_ids, $2 streams, $3 since, $4 until: four arrays, one element a question. What lies in
-- [since, until) and is not settled, oldest first, with the place of its question (from 1).
SELECT asked.place, lower(gap) AS since, upper(gap) AS until
  FROM unnest($1::text[], $2::text[], $3::timestamptz[], $4::timestamptz[])
       WITH ORDINALITY AS asked (shop_id, stream, since, until, place)
  LEFT JOIN sync.cursors AS c USING (shop_id, stream)
 CROSS JOIN LATERAL unnest(tstzmultirange(tstzrange(asked.since, asked.until)) - coalesce(c.settled, '{}')) AS gap
 ORDER BY asked.place, gap;

-- name: uncovered
-- Like gaps. What lies in [since, until) and was never read.
SELECT asked.place, lower(gap) AS since, upper(gap) AS until
  FROM unnest($1::text[], $2::text[], $3::timestamptz[], $4::timestamptz[])
       WITH ORDINALITY AS asked (shop_id, stream, since, until, place)
  LEFT JOIN sync.cursors AS c USING (shop_id, stream)
 CROSS JOIN LATERAL unnest(tstzmultirange(tstzrange(asked.since, asked.until)) - coalesce(c.covered, '{}')) AS gap
 ORDER BY asked.place, gap;

-- name: cover_whole
-- $1 shop_id, $2 stream, $3 as of, $4 owner, $5 epoch. For streams without windows: everything was
-- read, as it was then. True while the lease is the owner's; else nothing is written.
WITH held AS MATERIALIZED (
    SELECT shop_id FROM sync.leases WHERE shop_id = $1 AND owner = $4 AND epoch = $5 AND expires_at > now()
       FOR KEY SHARE
), covered AS (
    UPDATE sync.cursors SET synced_until = greatest(synced_until, $3)
     WHERE shop_id = $1 AND stream = $2 AND EXISTS (SELECT FROM held))
SELECT EXISTS (SELECT FROM held);

-- name: ensure_cursors
-- $1 shop_id, $2 streams. Cursors for streams that have none yet, due at once.
INSERT INTO sync.cursors (shop_id, stream)
SELECT $1, stream FROM unnest($2::text[]) AS stream
ON CONFLICT (shop_id, stream) DO NOTHING;

-- name: note_attempts
-- $1 shop_ids, $2 streams, $3 owners or NULLs, $4 epochs: four arrays, one element a cursor. Those that
-- exist. They are marked as tried now, unless somebody has one locked, or the shop's lease is another
-- owner's. Nobody waits for the disk: what a crash forgets is noted again.
WITH tried AS MATERIALIZED (
    SELECT c.shop_id, c.stream,
           t.owner IS NULL OR (SELECT l.owner = t.owner AND l.epoch = t.epoch FROM sync.leases AS l
                                WHERE l.shop_id = t.shop_id) AS is_held
      FROM unnest($1::text[], $2::text[], $3::uuid[], $4::bigint[]) AS t (shop_id, stream, owner, epoch)
      JOIN sync.cursors AS c USING (shop_id, stream)
     WHERE (SELECT set_config('synchronous_commit', 'off', true)) = 'off'
), free AS MATERIALIZED (
    SELECT c.shop_id, c.stream FROM tried AS t JOIN sync.cursors AS c USING (shop_id, stream)
     WHERE t.is_held
       FOR NO KEY UPDATE OF c SKIP LOCKED
), noted AS (
    UPDATE sync.cursors AS c SET attempted_at = now() FROM free AS f
     WHERE c.shop_id = f.shop_id AND c.stream = f.stream)
SELECT shop_id, stream FROM tried;

-- name: note_successes
-- $1 shop_ids, $2 streams, $3 seconds until each is due again, $4 owners or NULLs, $5 epochs: five
-- arrays, one element a cursor. Those that were noted: nobody had them locked, and the shop's lease was
-- not another owner's. With each, how many of its records are missing from the tables. Nobody waits
-- for the disk: what a crash forgets is due again at once.
WITH free AS MATERIALIZED (
    SELECT c.shop_id, c.stream, d.due_in_s
      FROM unnest($1::text[], $2::text[], $3::float8[], $4::uuid[], $5::bigint[])
           AS d (shop_id, stream, due_in_s, owner, epoch)
      JOIN sync.cursors AS c USING (shop_id, stream)
     WHERE (SELECT set_config('synchronous_commit', 'off', true)) = 'off'
       AND (d.owner IS NULL OR (SELECT l.owner = d.owner AND l.epoch = d.epoch FROM sync.leases AS l
                                 WHERE l.shop_id = d.shop_id))
       FOR NO KEY UPDATE OF c SKIP LOCKED
)
UPDATE sync.cursors AS c
   SET succeeded_at = now(), due_at = now() + make_interval(secs => f.due_in_s), failures = 0,
       last_error = NULL, last_error_at = NULL, parked_reason = NULL
  FROM free AS f
 WHERE c.shop_id = f.shop_id AND c.stream = f.stream
RETURNING c.shop_id, c.stream,
          (SELECT count(*) FROM sync.rejects AS r
            WHERE r.shop_id = c.shop_id AND r.stream = c.stream AND NOT r.stored) AS rejects;

-- name: lock_cursor
-- $1 shop_id, $2 stream. Nobody else has the cursor locked, until the transaction ends.
SELECT 1 FROM sync.cursors WHERE shop_id = $1 AND stream = $2 FOR NO KEY UPDATE;

-- name: note_failure
-- $1 shop_id, $2 stream, $3 error, $4 seconds until it is tried again, $5 why it is parked or NULL,
-- $6 owner or NULL, $7 epoch. Nothing when the shop's lease is another owner's.
UPDATE sync.cursors
   SET failures = failures + 1, last_error = $3, last_error_at = now(),
       due_at = now() + make_interval(secs => $4), parked_reason = $5
 WHERE shop_id = $1 AND stream = $2
   AND ($6::uuid IS NULL OR EXISTS (SELECT FROM sync.leases
                                     WHERE shop_id = $1 AND owner = $6 AND epoch = $7::bigint));

-- name: cursor_failures
-- $1 shop_id, $2 stream. Failures in a row.
SELECT failures FROM sync.cursors WHERE shop_id = $1 AND stream = $2;

-- name: due_shops
-- $1 streams, $2 at most so many, $3 shop_ids to leave out, $4 shop_ids that the caller visits. Shops with something due, longest
-- waiting first, and what is due.
-- A shop that some process syncs now is left out, and may not stand in the way of others; the caller's
-- own visits give way.
-- A shop that TikTok calls inactive is asked again when its cursors are due, a day later.
-- Streams that are all but due come along, so that a shop's streams stay together.
WITH waiting AS (
    SELECT c.shop_id, c.due_at
      FROM sync.cursors AS c
      JOIN sync.shops AS s USING (shop_id)
     WHERE s.state IN ('active', 'inactive') AND c.due_at <= now() AND c.stream = ANY ($1::text[])
       AND c.shop_id <> ALL ($3::text[])
       AND NOT EXISTS (SELECT FROM sync.leases AS l
                        WHERE l.shop_id = c.shop_id AND l.expires_at > now() AND l.shop_id <> ALL ($4::text[])
                          AND EXISTS (SELECT FROM pg_stat_activity AS a
                                       WHERE a.pid = l.session_pid
                                         AND (a.backend_start = l.session_start OR a.backend_start IS NULL)))
     ORDER BY c.due_at
     -- A shop waits with each of its streams; without a bound all that wait would be sorted.
     LIMIT $2 * cardinality($1::text[])
), first AS (
    SELECT shop_id, min(due_at) AS due_at FROM waiting GROUP BY shop_id ORDER BY min(due_at) LIMIT $2)
SELECT f.shop_id,
       ARRAY(SELECT c.stream FROM sync.cursors AS c
              WHERE c.shop_id = f.shop_id AND c.due_at <= now() + interval '2 seconds'
                AND c.stream = ANY ($1::text[])) AS streams
  FROM first AS f
 ORDER BY f.due_at;

-- name: retry_failed
-- Whatever failed last is due now: a restart means that somebody may have mended the cause.
UPDATE sync.cursors SET due_at = now() WHERE last_error IS NOT NULL AND due_at > now();

-- name: be_lenient
-- Values that do not fit their columns become NULL, for the rest of the transaction.
SET LOCAL search_path TO sync_lenient;

-- name: be_strict
-- Values that do not fit their columns are errors again.
SET LOCAL search_path TO sync_strict;
