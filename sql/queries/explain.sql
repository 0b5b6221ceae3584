-- How a record came into the tables. For people, who ask for one at a time.

-- name: explain_order
-- $1 order_id, $2 shop_ids or NULL for all. The stored order of each shop that has one.
SELECT o.shop_id, s.name AS shop_name, o.status, o.create_time, o.update_time, o._synced_at AS synced_at,
       o._fetched_at AS fetched_at, o._slice AS slice_id, NULL::timestamptz AS deleted_at,
       (SELECT count(*) FROM tiktok.order_line_items AS l
         WHERE l.shop_id = o.shop_id AND l.order_id = o.order_id) || ' line items' AS parts
  FROM tiktok.shops AS s
 CROSS JOIN LATERAL (SELECT * FROM tiktok.orders AS x
                      WHERE x.shop_id = s.shop_id AND x.order_id BETWEEN $1 AND $1
                      ORDER BY x.order_id LIMIT 1) AS o
 WHERE $2::text[] IS NULL OR s.shop_id = ANY ($2);

-- name: explain_product
-- $1 product_id, $2 shop_ids or NULL for all. The stored product of each shop that has one.
SELECT p.shop_id, s.name AS shop_name, p.status, p.create_time, p.update_time, p._synced_at AS synced_at,
       p._fetched_at AS fetched_at, p._slice AS slice_id, p._deleted_at AS deleted_at,
       (SELECT count(*) FROM tiktok.skus AS k
         WHERE k.shop_id = p.shop_id AND k.product_id = p.product_id AND k._deleted_at IS NULL)
       || ' live SKUs' AS parts
  FROM tiktok.shops AS s
 CROSS JOIN LATERAL (SELECT * FROM tiktok.products AS x
                      WHERE x.shop_id = s.shop_id AND x.product_id BETWEEN $1 AND $1
                      ORDER BY x.product_id LIMIT 1) AS p
 WHERE $2::text[] IS NULL OR s.shop_id = ANY ($2);

-- name: explain_sku
-- $1 sku_id, $2 shop_ids or NULL for all. The stored SKU of each shop that has one; it came with its product.
SELECT k.shop_id, s.name AS shop_name, k.status, p.create_time, p.update_time, k._synced_at AS synced_at,
       k._fetched_at AS fetched_at, p._slice AS slice_id, k._deleted_at AS deleted_at,
       'of product ' || k.product_id AS parts
  FROM tiktok.shops AS s
 CROSS JOIN LATERAL (SELECT * FROM tiktok.skus AS x
                      WHERE x.shop_id = s.shop_id AND x.sku_id BETWEEN $1 AND $1
                      ORDER BY x.sku_id LIMIT 1) AS k
  LEFT JOIN tiktok.products AS p ON p.shop_id = k.shop_id AND p.product_id = k.product_id
 WHERE $2::text[] IS NULL OR s.shop_id = ANY ($2);

-- name: explain_stock
-- $1 shop_id, $2 sku_id. Its stock in each warehouse, and by which read that came.
SELECT i.warehouse_id, i.available_quantity, i.committed_quantity, i._synced_at AS synced_at,
       i._fetched_at AS fetched_at, i._slice AS slice_id, i._deleted_at AS deleted_at,
       (SELECT count(*) FROM tiktok.inventory_history AS h
         WHERE h.shop_id = i.shop_id AND h.sku_id = i.sku_id AND h.warehouse_id = i.warehouse_id) AS changes
  FROM tiktok.inventory AS i
 WHERE i.shop_id = $1 AND i.sku_id = $2
 ORDER BY i.warehouse_id;

-- name: slice_by_id
-- $1 slice_id, $2 shop_id, $3 stream, $4 fetched_at of the version. The row that accounts for a read: its own, or once
-- the day is summed up that of the day.
SELECT l.slice_id, l.since, l.until, l.keys, l.verdict, l.first_total, l.last_total, l.distinct_ids, l.walks,
       l.requests, l.inserted, l.updated, l.stale, l.unchanged, l.rejected, l.polls, l.started_at, l.finished_at,
       l.run_id, r.reason
  FROM sync.slices AS l
  LEFT JOIN sync.runs AS r USING (run_id)
 WHERE l.slice_id = $1
    OR (l.shop_id = $2 AND l.stream = $3 AND l.verdict = 'summed'
        AND l.started_at <= $4 AND l.finished_at >= $4)
 ORDER BY l.slice_id <> $1
 LIMIT 1;

-- name: slices_over
-- $1 shop_id, $2 stream, $3 update_time, $4 since when. Reads after that moment that would have shown the version, or a
-- newer one: how many, and when the last one ended.
SELECT coalesce(sum(polls), 0)::bigint AS reads, max(finished_at) AS last_at
  FROM sync.slices
 WHERE shop_id = $1 AND stream = $2 AND finished_at > $4 AND verdict NOT IN ('cut', 'summed')
   AND (since IS NULL OR (since <= $3 AND until > $3));

-- name: trouble_of
-- $1 shop_ids or NULL for all, $2 stream, $3 key. What stands in the way of a record: that it was set aside, that it
-- waits to be read, or that a comparison missed it.
SELECT shop_id, 'set aside: ' || reason || CASE WHEN stored THEN ' (stored without what does not fit)' ELSE '' END
       AS trouble, last_seen AS at
  FROM sync.rejects
 WHERE ($1::text[] IS NULL OR shop_id = ANY ($1)) AND stream = $2 AND record_id = $3
 UNION ALL
SELECT shop_id, 'waits to be read, because of a ' || source || ' at', heard_at FROM sync.hints
 WHERE ($1 IS NULL OR shop_id = ANY ($1)) AND stream = $2 AND key = $3
 UNION ALL
SELECT shop_id, kind || ' in a comparison: ' || reason || CASE WHEN ended_at IS NULL THEN '' ELSE '; over' END,
       found_at
  FROM sync.findings
 WHERE ($1 IS NULL OR shop_id = ANY ($1)) AND stream = $2 AND $3 = ANY (keys)
 ORDER BY at;

-- name: proven_at
-- $1 shop_id, $2 stream, $3 create_time. When a comparison last proved that creation time complete; NULL: none has.
SELECT finished_at FROM sync.proofs WHERE shop_id = $1 AND stream = $2 AND proven @> $3::timestamptz;

-- name: sum_up_slices
-- $1 days for which slices have a row of their own, $2 at most so many. Older ones are summed up, those of one day of
-- a shop and stream in one row. How many were. A row that polls still prolong stays.
WITH old AS MATERIALIZED (
    SELECT l.ctid AS address
      FROM sync.slices AS l
      LEFT JOIN sync.cursors AS c USING (shop_id, stream)
     WHERE l.verdict <> 'summed' AND l.slice_id IS DISTINCT FROM c.quiet_slice_id
       AND l.finished_at < date_trunc('day', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC' - make_interval(days => $1)
     ORDER BY l.slice_id
     LIMIT $2
       FOR UPDATE OF l SKIP LOCKED
), gone AS (
    DELETE FROM sync.slices AS l WHERE l.ctid = ANY (ARRAY (SELECT address FROM old)) RETURNING l.*
), summed AS (
    SELECT shop_id, stream, date_trunc('day', finished_at AT TIME ZONE 'UTC') AS day, min(since) AS since,
           max(until) AS until, sum(keys) AS keys, sum(first_total) AS first_total, sum(last_total) AS last_total,
           sum(distinct_ids) AS distinct_ids, sum(walks) AS walks, sum(requests) AS requests,
           sum(fetched) AS fetched, sum(inserted) AS inserted, sum(updated) AS updated, sum(stale) AS stale,
           sum(unchanged) AS unchanged, sum(rejected) AS rejected, sum(polls) AS polls,
           min(started_at) AS started_at, max(finished_at) AS finished_at
      FROM gone GROUP BY 1, 2, 3
), added AS (
    UPDATE sync.slices AS d
       SET since = least(d.since, s.since), until = greatest(d.until, s.until), keys = d.keys + s.keys,
           first_total = d.first_total + s.first_total, last_total = d.last_total + s.last_total,
           distinct_ids = d.distinct_ids + s.distinct_ids, walks = d.walks + s.walks,
           requests = d.requests + s.requests, fetched = d.fetched + s.fetched,
           inserted = d.inserted + s.inserted, updated = d.updated + s.updated, stale = d.stale + s.stale,
           unchanged = d.unchanged + s.unchanged, rejected = d.rejected + s.rejected, polls = d.polls + s.polls,
           started_at = least(d.started_at, s.started_at), finished_at = greatest(d.finished_at, s.finished_at)
      FROM summed AS s
     WHERE d.shop_id = s.shop_id AND d.stream = s.stream AND d.verdict = 'summed'
       AND date_trunc('day', d.finished_at AT TIME ZONE 'UTC') = s.day
    RETURNING d.shop_id, d.stream, s.day
), made AS (
    INSERT INTO sync.slices (
        shop_id, stream, since, until, keys, verdict, first_total, last_total, distinct_ids, walks, requests,
        fetched, inserted, updated, stale, unchanged, rejected, polls, started_at, finished_at)
    SELECT shop_id, stream, since, until, keys, 'summed', first_total, last_total, distinct_ids, walks, requests,
           fetched, inserted, updated, stale, unchanged, rejected, polls, started_at, finished_at
      FROM summed WHERE (shop_id, stream, day) NOT IN (SELECT a.shop_id, a.stream, a.day FROM added AS a)
)
SELECT count(*) FROM gone;

-- name: forget_runs
-- $1 days, $2 at most so many. Runs that ended before that are gone, and so are findings. How many.
WITH runs AS (
    DELETE FROM sync.runs
     WHERE ctid = ANY (ARRAY (SELECT r.ctid FROM sync.runs AS r
                               WHERE r.finished_at < now() - make_interval(days => $1)
                               ORDER BY r.finished_at LIMIT $2))
    RETURNING 1
), findings AS (
    DELETE FROM sync.findings
     WHERE ctid = ANY (ARRAY (SELECT f.ctid FROM sync.findings AS f
                               WHERE f.ended_at < now() - make_interval(days => $1)
                               ORDER BY f.ended_at LIMIT $2))
    RETURNING 1
)
SELECT (SELECT count(*) FROM runs) + (SELECT count(*) FROM findings);
