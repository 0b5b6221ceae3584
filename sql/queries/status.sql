-- name: status
-- $1 streams. One row per connected shop and stream, with what a person wants to know of it.
SELECT s.shop_id, coalesce(t.name, '') AS name, coalesce(t.region, '') AS region, coalesce(k.app, '') AS app,
       s.state, s.state_reason, c.stream, c.synced_until, extract(epoch FROM now() - c.synced_until)::float8 AS lag_s,
       lower(c.covered) AS covered_since,
       c.succeeded_at, c.attempted_at, c.due_at, c.failures, c.last_error, c.last_error_at, c.parked_reason,
       (SELECT count(*) FROM sync.rejects AS j
         WHERE j.shop_id = s.shop_id AND j.stream = c.stream AND NOT j.stored) AS rejects,
       l.holder AS synced_by, k.refresh_expires_at AS consent_ends_at,
       p.verdict, p.finished_at AS compared_at,
       (SELECT count(*) FROM sync.findings AS f
         WHERE f.shop_id = s.shop_id AND f.stream = c.stream AND f.ended_at IS NULL) AS findings
  FROM sync.shops AS s
  LEFT JOIN tiktok.shops AS t USING (shop_id)
  JOIN sync.cursors AS c USING (shop_id)
  LEFT JOIN sync.leases AS l ON l.shop_id = s.shop_id AND l.expires_at > now()
  LEFT JOIN sync.credentials AS k USING (credential_id)
  LEFT JOIN sync.proofs AS p ON p.shop_id = s.shop_id AND p.stream = c.stream
 WHERE s.state <> 'disconnected'
 ORDER BY t.connected_at, s.shop_id, array_position($1::text[], c.stream);

-- name: request_rates
-- Requests per second of each shop that asked anything lately, about over its last minute.
SELECT shop_id, sum(request_rate * exp(-greatest(extract(epoch FROM now() - rated_at)::float8, 0) / 60))
                AS requests_per_second
  FROM sync.cursors WHERE rated_at > now() - interval '10 minutes'
 GROUP BY shop_id;

-- name: row_counts
-- Live rows per shop and stream: what a dashboard would count.
SELECT shop_id, 'orders' AS stream, count(*) AS rows FROM tiktok.orders GROUP BY shop_id
UNION ALL
SELECT shop_id, 'products', count(*) FROM tiktok.products WHERE _deleted_at IS NULL GROUP BY shop_id
UNION ALL
SELECT shop_id, 'inventory', count(*) FROM tiktok.inventory WHERE _deleted_at IS NULL GROUP BY shop_id
UNION ALL
SELECT shop_id, 'warehouses', count(*) FROM tiktok.warehouses WHERE _deleted_at IS NULL GROUP BY shop_id;

-- name: ping
SELECT 1;
