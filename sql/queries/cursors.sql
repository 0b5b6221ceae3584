-- name: gaps
-- $1 shop_id, $2 stream, $3 since, $4 until. What lies in [since, until) and is not settled, oldest first.
SELECT lower(gap) AS since, upper(gap) AS until
  FROM unnest(tstzmultirange(tstzrange($3, $4))
              - coalesce((SELECT settled FROM sync.cursors WHERE shop_id = $1 AND stream = $2), '{}')) AS gap
 ORDER BY gap;

-- name: uncovered
-- $1 shop_id, $2 stream, $3 since, $4 until. What lies in [since, until) and was never read, oldest first.
SELECT lower(gap) AS since, upper(gap) AS until
  FROM unnest(tstzmultirange(tstzrange($3, $4))
              - coalesce((SELECT covered FROM sync.cursors WHERE shop_id = $1 AND stream = $2), '{}')) AS gap
 ORDER BY gap;

-- name: cover
-- $1 shop_id, $2 stream, $3 since, $4 until, $5 settled_until: the part before it needs no second look.
-- Only in the transaction that stores the last rows of the window.
UPDATE sync.cursors
   SET covered = covered + tstzmultirange(tstzrange($3, $4)),
       settled = settled + CASE WHEN $5 > $3
                                THEN tstzmultirange(tstzrange($3, least($4, $5))) ELSE '{}' END,
       synced_until = upper(covered + tstzmultirange(tstzrange($3, $4)))
 WHERE shop_id = $1 AND stream = $2;

-- name: cover_whole
-- $1 shop_id, $2 stream, $3 as of. For streams without windows: everything was read, as it was then.
UPDATE sync.cursors SET synced_until = greatest(synced_until, $3) WHERE shop_id = $1 AND stream = $2;

-- name: ensure_cursors
-- $1 shop_id, $2 streams. Cursors for streams that have none yet, due at once.
INSERT INTO sync.cursors (shop_id, stream)
SELECT $1, stream FROM unnest($2::text[]) AS stream
ON CONFLICT (shop_id, stream) DO NOTHING;

-- name: note_attempt
-- $1 shop_id, $2 stream.
UPDATE sync.cursors SET attempted_at = now() WHERE shop_id = $1 AND stream = $2;

-- name: note_success
-- $1 shop_id, $2 stream, $3 seconds until it is due again.
UPDATE sync.cursors
   SET succeeded_at = now(), due_at = now() + make_interval(secs => $3), failures = 0,
       last_error = NULL, last_error_at = NULL, parked_reason = NULL
 WHERE shop_id = $1 AND stream = $2;

-- name: note_failure
-- $1 shop_id, $2 stream, $3 error, $4 seconds until it is tried again, $5 why it is parked or NULL.
UPDATE sync.cursors
   SET failures = failures + 1, last_error = $3, last_error_at = now(),
       due_at = now() + make_interval(secs => $4), parked_reason = $5
 WHERE shop_id = $1 AND stream = $2;

-- name: cursor_failures
-- $1 shop_id, $2 stream. Failures in a row.
SELECT failures FROM sync.cursors WHERE shop_id = $1 AND stream = $2;

-- name: due_shops
-- $1 streams, $2 at most so many. Shops with something due, longest waiting first, and what is due.
-- A shop that some process syncs now is left out, and may not stand in the way of others.
-- A shop that TikTok calls inactive is asked again when its cursors are due, a day later.
SELECT c.shop_id, array_agg(c.stream) AS streams
  FROM sync.cursors AS c
  JOIN sync.shops AS s USING (shop_id)
 WHERE s.state IN ('active', 'inactive') AND c.due_at <= now() AND c.stream = ANY ($1::text[])
   AND NOT EXISTS (SELECT FROM sync.leases AS l
                    WHERE l.shop_id = c.shop_id AND l.expires_at > now()
                      AND EXISTS (SELECT FROM pg_stat_activity AS a
                                   WHERE a.pid = l.session_pid
                                     AND (a.backend_start = l.session_start OR a.backend_start IS NULL)))
 GROUP BY c.shop_id
 ORDER BY min(c.due_at)
 LIMIT $2;

-- name: retry_failed
-- Whatever failed last is due now: a restart means that somebody may have mended the cause.
UPDATE sync.cursors SET due_at = now() WHERE last_error IS NOT NULL AND due_at > now();

-- name: be_lenient
-- Values that do not fit their columns become NULL, for the rest of the transaction.
SET LOCAL search_path TO sync_lenient;

-- name: be_strict
-- Values that do not fit their columns are errors again.
SET LOCAL search_path TO sync_strict;
