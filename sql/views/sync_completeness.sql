-- Whether the copy is complete, per shop and stream: what was proven, when, and what is known to be missing.
CREATE OR REPLACE VIEW bi.sync_completeness AS
SELECT c.shop_id,
       s.name AS shop_name,
       c.stream,
       CASE WHEN f.findings > 0 AND p.verdict IN ('complete', 'repaired') THEN 'incomplete'
            ELSE coalesce(p.verdict, 'not compared') END AS verdict,
       p.finished_at AS compared_at,
       CASE WHEN p.since IS NULL THEN NULL
            WHEN p.finished_at IS NULL THEN p.proven_before + p.proven
            ELSE p.proven END AS proven,
       p.api_rows,
       p.stored_rows,
       coalesce(f.findings, 0) AS findings,
       coalesce(f.missing, 0) AS missing_rows,
       (SELECT count(*) FROM sync.rejects AS r
         WHERE r.shop_id = c.shop_id AND r.stream = c.stream AND NOT r.stored) AS rejected_rows,
       lower(c.covered) AS read_since,
       c.synced_until,
       p.reason
  FROM sync.cursors AS c
  JOIN tiktok.shops AS s USING (shop_id)
  LEFT JOIN sync.proofs AS p USING (shop_id, stream)
  LEFT JOIN LATERAL (
       SELECT count(*) AS findings,
              sum(CASE WHEN o.kind IN ('missing', 'hidden')
                       THEN greatest(o.api_rows - o.stored_rows, cardinality(o.keys), 1) END)::bigint AS missing
         FROM sync.findings AS o
        WHERE o.shop_id = c.shop_id AND o.stream = c.stream AND o.ended_at IS NULL) AS f ON true
 WHERE s.disconnected_at IS NULL;

COMMENT ON VIEW bi.sync_completeness IS
    'Whether the copy is complete, one row per shop and stream: the newest comparison with TikTok Shop''s own counts.';
COMMENT ON COLUMN bi.sync_completeness.shop_id IS 'Shop; joins tiktok.shops.';
COMMENT ON COLUMN bi.sync_completeness.shop_name IS 'Name of the shop.';
COMMENT ON COLUMN bi.sync_completeness.stream IS 'orders, products, inventory or warehouses.';
COMMENT ON COLUMN bi.sync_completeness.verdict IS 'complete, repaired (something was missing and is there now), incomplete, contradictory (TikTok Shop''s counts contradict each other), uncounted (it gives none) or not compared.';
COMMENT ON COLUMN bi.sync_completeness.compared_at IS 'When the comparison ended; NULL while one is under way or before the first.';
COMMENT ON COLUMN bi.sync_completeness.proven IS 'Creation time of which the copy has what TikTok Shop counts; ask with @> for a day or a moment. NULL for streams that are compared by their ids.';
COMMENT ON COLUMN bi.sync_completeness.api_rows IS 'What TikTok Shop counts of that time; deleted products are counted where it counts them.';
COMMENT ON COLUMN bi.sync_completeness.stored_rows IS 'What the copy has of that time.';
COMMENT ON COLUMN bi.sync_completeness.findings IS 'Differences that still stand.';
COMMENT ON COLUMN bi.sync_completeness.missing_rows IS 'Rows that TikTok Shop has and the copy lacks, as far as is known.';
COMMENT ON COLUMN bi.sync_completeness.rejected_rows IS 'Records that Postgres could not store.';
COMMENT ON COLUMN bi.sync_completeness.read_since IS 'Update time from which on the stream was read.';
COMMENT ON COLUMN bi.sync_completeness.synced_until IS 'What TikTok Shop showed up to this moment is stored.';
COMMENT ON COLUMN bi.sync_completeness.reason IS 'What stands in the way of completeness.';
