-- What was proven complete, what was found wrong, and by which read each stored version came.

CREATE TABLE sync.proofs (
    shop_id     text NOT NULL,
    stream      text NOT NULL,
    since       timestamptz,
    until       timestamptz,
    proven      tstzmultirange NOT NULL DEFAULT '{}',
    proven_before tstzmultirange NOT NULL DEFAULT '{}',
    api_rows    bigint,
    stored_rows bigint,
    requests    bigint NOT NULL DEFAULT 0,
    verdict     text,
    reason      text,
    began_at    timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz,
    due_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (shop_id, stream)
);
CREATE INDEX proofs_due ON sync.proofs (due_at);
COMMENT ON TABLE sync.proofs IS 'The newest comparison of each shop and stream with TikTok Shop''s own counts, and how far it has come.';
COMMENT ON COLUMN sync.proofs.since IS 'Beginning of the creation time that is compared; NULL for streams that are compared by their ids.';
COMMENT ON COLUMN sync.proofs.until IS 'End of the creation time that is compared: what is newer may still be on its way.';
COMMENT ON COLUMN sync.proofs.proven IS 'Creation time of which the copy has what TikTok Shop counts.';
COMMENT ON COLUMN sync.proofs.proven_before IS 'The same of the comparison before: what counts while one is under way.';
COMMENT ON COLUMN sync.proofs.api_rows IS 'What TikTok Shop counts between since and until; NULL while it is not known.';
COMMENT ON COLUMN sync.proofs.stored_rows IS 'Live rows of the copy in the same stretch, at the end.';
COMMENT ON COLUMN sync.proofs.requests IS 'Requests that the comparison has cost.';
COMMENT ON COLUMN sync.proofs.verdict IS 'complete, repaired (complete now), incomplete (sync.findings says what), contradictory (TikTok Shop''s counts contradict each other), uncounted (it counts nothing); NULL until the first comparison has ended.';
COMMENT ON COLUMN sync.proofs.finished_at IS 'When it ended; NULL while it is under way.';
COMMENT ON COLUMN sync.proofs.due_at IS 'When the daemon compares again.';

CREATE TABLE sync.findings (
    finding_id  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    shop_id     text NOT NULL,
    stream      text NOT NULL,
    kind        text NOT NULL,
    since       timestamptz,
    until       timestamptz,
    api_rows    bigint,
    stored_rows bigint,
    keys        text[] NOT NULL DEFAULT '{}',
    reason      text NOT NULL,
    found_at    timestamptz NOT NULL DEFAULT now(),
    seen_in     timestamptz NOT NULL DEFAULT now(),
    ended_at    timestamptz,
    ended_by    text
);
CREATE INDEX findings_open ON sync.findings (shop_id, stream) WHERE ended_at IS NULL;
CREATE INDEX findings_ended ON sync.findings (ended_at) WHERE ended_at IS NOT NULL;
COMMENT ON TABLE sync.findings IS 'Differences between the copy and TikTok Shop that a comparison has found.';
COMMENT ON COLUMN sync.findings.kind IS 'missing (shown, not stored), rejected (shown, and set aside in sync.rejects), vanished (stored, not shown any more), hidden (counted, not shown) or contradictory (the counts contradict each other).';
COMMENT ON COLUMN sync.findings.since IS 'Beginning of the creation time in which it is, to the second; NULL where it was found by ids.';
COMMENT ON COLUMN sync.findings.keys IS 'The ids, as far as they are known; at most a thousand.';
COMMENT ON COLUMN sync.findings.seen_in IS 'When the comparison began that saw it last.';
COMMENT ON COLUMN sync.findings.ended_at IS 'When it was repaired, or a later comparison did not find it any more.';
COMMENT ON COLUMN sync.findings.ended_by IS 'repair, or comparison (a later one found nothing); NULL while it is open.';

CREATE INDEX products_create_time_idx ON tiktok.products (shop_id, create_time);

-- By which read each stored version came.
ALTER TABLE tiktok.orders ADD COLUMN _slice bigint;
ALTER TABLE tiktok.products ADD COLUMN _slice bigint;
ALTER TABLE tiktok.inventory ADD COLUMN _slice bigint;
ALTER TABLE tiktok.warehouses ADD COLUMN _slice bigint;
COMMENT ON COLUMN tiktok.orders._slice IS 'The read by which this version came, for `shopsync explain`; NULL: it came before that was noted.';
COMMENT ON COLUMN tiktok.products._slice IS 'The read by which this version came, for `shopsync explain`; NULL: it came before that was noted.';
COMMENT ON COLUMN tiktok.inventory._slice IS 'The read by which this version came, for `shopsync explain`; NULL: it came before that was noted.';
COMMENT ON COLUMN tiktok.warehouses._slice IS 'The read by which this version came, for `shopsync explain`; NULL: it came before that was noted.';

COMMENT ON COLUMN sync.slices.slice_id IS 'Drawn when the slice stores its first page; _slice of what it has stored.';
COMMENT ON COLUMN sync.slices.verdict IS 'clean (counts and ids agree), stable (two walks saw the same ids, the count disagrees), exhausted (no count; a further walk saw nothing new), whole (one unpaged answer) or cut (read in parts instead). Out of turn: notification, reread (an open order''s turn) or repair (a comparison found it missing), with what changed within a minute or so. summed: all slices of a day that is over.';
-- Old rows are found by their age. What a quiet poll prolongs is in no index.
CREATE INDEX slices_started ON sync.slices (shop_id, stream, started_at);
CREATE INDEX runs_finished ON sync.runs (finished_at) WHERE finished_at IS NOT NULL;

-- Point-in-time stock: of a SKU in a warehouse no two rows are valid at the same moment, whoever writes them. (An
-- exclusion constraint would need the extension btree_gist.) Only one row can be open, so two sessions
-- that add rows at once wait for each other at the index of open rows, and look after that.
CREATE FUNCTION sync.refuse_overlap() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    ended timestamptz;
    following timestamptz;
BEGIN
    SELECT coalesce(h.valid_to, 'infinity') INTO ended
      FROM tiktok.inventory_history AS h
     WHERE h.shop_id = NEW.shop_id AND h.sku_id = NEW.sku_id AND h.warehouse_id = NEW.warehouse_id
       AND h.valid_from < NEW.valid_from
     ORDER BY h.valid_from DESC
     LIMIT 1;
    SELECT h.valid_from INTO following
      FROM tiktok.inventory_history AS h
     WHERE h.shop_id = NEW.shop_id AND h.sku_id = NEW.sku_id AND h.warehouse_id = NEW.warehouse_id
       AND h.valid_from > NEW.valid_from
     ORDER BY h.valid_from
     LIMIT 1;
    IF ended > NEW.valid_from OR coalesce(NEW.valid_to, 'infinity') > following THEN
        RAISE EXCEPTION 'stock of SKU % in warehouse % is valid twice at one moment', NEW.sku_id, NEW.warehouse_id
            USING ERRCODE = 'exclusion_violation';
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER ranges_never_overlap AFTER INSERT OR UPDATE OF valid_from, valid_to ON tiktok.inventory_history
    FOR EACH ROW EXECUTE FUNCTION sync.refuse_overlap();
COMMENT ON FUNCTION sync.refuse_overlap() IS 'Refuses a row of tiktok.inventory_history that is valid at the same moment as its neighbour.';
