-- Thousands of quiet shops are polled every minute: a poll that finds nothing new adds no row.

-- A quiet slice has no run to point at, and prolongs the ledger row of the one before it.
ALTER TABLE sync.slices ALTER COLUMN run_id DROP NOT NULL;
ALTER TABLE sync.slices ADD COLUMN polls bigint NOT NULL DEFAULT 1;
COMMENT ON TABLE sync.slices IS 'The ledger: every slice that was closed or cut is accounted for in the transaction that closed it, in a row of its own, or, where nothing had changed, in the row of the quiet slice before it.';
COMMENT ON COLUMN sync.slices.run_id IS 'The run; NULL for quiet slices: clean, and nothing inserted, updated, stale or rejected.';
COMMENT ON COLUMN sync.slices.polls IS 'How many slices the row stands for: neighbouring quiet ones share a row that reaches from the first one''s since to the last one''s until, and whose counts are their sums.';
COMMENT ON COLUMN sync.slices.first_total IS 'total_count of the first page of the last walk; summed over the polls.';
COMMENT ON COLUMN sync.slices.last_total IS 'total_count of the last page of the last walk; summed over the polls.';
COMMENT ON COLUMN sync.slices.distinct_ids IS 'Different ids seen in the last walk; summed over the polls.';
COMMENT ON COLUMN sync.slices.walks IS 'How often the slice was walked until the verdict; summed over the polls.';

-- No index holds what a prolonged row changes, so that prolonging it touches the row alone. A row is
-- found by its key, which the cursor remembers.
DROP INDEX sync.slices_shop;
ALTER TABLE sync.cursors ADD COLUMN quiet_slice_id bigint;
COMMENT ON COLUMN sync.cursors.quiet_slice_id IS 'The stream''s newest row in sync.slices if it is a quiet one, which the next quiet slice prolongs; else NULL.';

COMMENT ON TABLE sync.runs IS 'One row per sync of a shop that had anything to tell: a round that was due and found nothing new has none. Without finished_at: under way, or its process was killed.';
CREATE INDEX runs_open ON sync.runs (shop_id) WHERE finished_at IS NULL;

-- The rate used to be counted from the last minute's rows of the ledger.
ALTER TABLE sync.cursors ADD COLUMN request_rate double precision NOT NULL DEFAULT 0;
ALTER TABLE sync.cursors ADD COLUMN rated_at timestamptz NOT NULL DEFAULT now();
COMMENT ON COLUMN sync.cursors.request_rate IS 'Requests per second of closed slices, as a mean that forgets with a time constant of one minute, as of rated_at.';
COMMENT ON COLUMN sync.cursors.rated_at IS 'When request_rate was last brought up to date.';

ALTER TABLE sync.leases ADD COLUMN learned_rate double precision;
COMMENT ON COLUMN sync.leases.learned_rate IS 'Requests per second that TikTok Shop was found to allow the shop; NULL: the documented limit.';

-- Rows that are rewritten every minute find room on their own page.
ALTER TABLE sync.cursors SET (fillfactor = 60);
ALTER TABLE sync.leases SET (fillfactor = 60);
ALTER TABLE sync.slices SET (fillfactor = 80);
