-- Book-keeping of the sync. Nothing here is for dashboards: people read tiktok and bi.
CREATE SCHEMA sync;
COMMENT ON SCHEMA sync IS 'Book-keeping of shopsync: credentials, cursors, leases, ledgers. Not for dashboards.';

CREATE TABLE sync.credentials (
    credential_id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    app                 text NOT NULL,
    open_id             text NOT NULL,
    seller_name         text NOT NULL DEFAULT '',
    seller_region       text NOT NULL DEFAULT '',
    access_token        bytea NOT NULL,
    refresh_token       bytea NOT NULL,
    previous_refresh_token bytea,
    access_expires_at   timestamptz NOT NULL,
    refresh_expires_at  timestamptz NOT NULL,
    granted_scopes      text[] NOT NULL DEFAULT '{}',
    generation          bigint NOT NULL DEFAULT 1,
    obtained_at         timestamptz NOT NULL DEFAULT now(),
    needs_reauth        text,
    UNIQUE (app, open_id)
);
COMMENT ON TABLE sync.credentials IS 'One row per seller and app: the tokens of one consent, encrypted.';
COMMENT ON COLUMN sync.credentials.app IS 'Name of the app in the settings that the seller consented to.';
COMMENT ON COLUMN sync.credentials.open_id IS 'The seller''s identity for this app.';
COMMENT ON COLUMN sync.credentials.access_token IS 'AES-256-GCM: key id (4 bytes), nonce (12), ciphertext; bound to app, open_id and kind.';
COMMENT ON COLUMN sync.credentials.refresh_token IS 'Encrypted like access_token.';
COMMENT ON COLUMN sync.credentials.previous_refresh_token IS 'The one before, kept for one retry when the newest is not known to TikTok.';
COMMENT ON COLUMN sync.credentials.generation IS 'Counts refreshes; a waiter that sees a new generation need not refresh again.';
COMMENT ON COLUMN sync.credentials.needs_reauth IS 'Why only a new consent helps; NULL while the tokens work.';

CREATE TABLE sync.shops (
    shop_id        text PRIMARY KEY,
    credential_id  bigint NOT NULL,
    cipher         text NOT NULL,
    state          text NOT NULL DEFAULT 'active',
    state_reason   text,
    state_since    timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX shops_credential ON sync.shops (credential_id);
COMMENT ON TABLE sync.shops IS 'How each connected shop is reached, and whether it is synced.';
COMMENT ON COLUMN sync.shops.cipher IS 'shop_cipher of every call. Useless without the token, but not for dashboards.';
COMMENT ON COLUMN sync.shops.state IS 'active, paused (by a person), needs_reauth, inactive (at TikTok) or disconnected.';

CREATE TABLE sync.leases (
    shop_id       text PRIMARY KEY,
    owner         uuid NOT NULL,
    epoch         bigint NOT NULL,
    expires_at    timestamptz NOT NULL,
    holder        text NOT NULL,
    session_pid   integer,
    session_start timestamptz
);
COMMENT ON TABLE sync.leases IS 'Which process may read and write a shop now. The epoch is checked inside every writing transaction.';
COMMENT ON COLUMN sync.leases.owner IS 'Fresh for every process start, so that a restart never inherits a lease silently.';
COMMENT ON COLUMN sync.leases.epoch IS 'Grows with every change of owner; a writer with an older one is refused.';
COMMENT ON COLUMN sync.leases.session_pid IS 'Backend of the owner''s lease connection: when it is gone the lease is free at once.';
COMMENT ON COLUMN sync.leases.session_start IS 'Start of that backend, since process numbers are reused.';

CREATE TABLE sync.cursors (
    shop_id       text NOT NULL,
    stream        text NOT NULL,
    covered       tstzmultirange NOT NULL DEFAULT '{}',
    settled       tstzmultirange NOT NULL DEFAULT '{}',
    synced_until  timestamptz,
    due_at        timestamptz NOT NULL DEFAULT now(),
    attempted_at  timestamptz,
    succeeded_at  timestamptz,
    failures      integer NOT NULL DEFAULT 0,
    last_error    text,
    last_error_at timestamptz,
    parked_reason text,
    PRIMARY KEY (shop_id, stream)
);
CREATE INDEX cursors_due ON sync.cursors (due_at);
COMMENT ON TABLE sync.cursors IS 'The coverage of each shop and stream: what has been read, not how far.';
COMMENT ON COLUMN sync.cursors.covered IS 'Update time that was read completely at least once.';
COMMENT ON COLUMN sync.cursors.settled IS 'Part of covered that was read after the lookback had passed: late changes cannot show up there any more, so it is not read again.';
COMMENT ON COLUMN sync.cursors.synced_until IS 'What the API showed up to this moment is stored, without a gap since the newest one.';
COMMENT ON COLUMN sync.cursors.due_at IS 'When the daemon reads the stream again.';
COMMENT ON COLUMN sync.cursors.parked_reason IS 'Why the stream waits (a missing scope, a retired endpoint); NULL while it works.';

CREATE TABLE sync.runs (
    run_id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    shop_id     text NOT NULL,
    reason      text NOT NULL,
    epoch       bigint NOT NULL,
    started_at  timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz,
    outcome     text,
    error       text,
    requests    bigint NOT NULL DEFAULT 0,
    fetched     bigint NOT NULL DEFAULT 0,
    inserted    bigint NOT NULL DEFAULT 0,
    updated     bigint NOT NULL DEFAULT 0,
    stale       bigint NOT NULL DEFAULT 0,
    unchanged   bigint NOT NULL DEFAULT 0,
    rejected    bigint NOT NULL DEFAULT 0
);
CREATE INDEX runs_shop ON sync.runs (shop_id, started_at DESC);
COMMENT ON TABLE sync.runs IS 'One row per sync of a shop. Without finished_at: under way, or its process was killed.';
COMMENT ON COLUMN sync.runs.outcome IS 'complete, incomplete (error says what), failed, or abandoned (its process died).';

CREATE TABLE sync.slices (
    slice_id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run_id       bigint NOT NULL,
    shop_id      text NOT NULL,
    stream       text NOT NULL,
    since        timestamptz,
    until        timestamptz,
    keys         integer,
    verdict      text NOT NULL,
    first_total  bigint,
    last_total   bigint,
    distinct_ids bigint NOT NULL,
    walks        integer NOT NULL,
    requests     bigint NOT NULL,
    fetched      bigint NOT NULL,
    inserted     bigint NOT NULL,
    updated      bigint NOT NULL,
    stale        bigint NOT NULL,
    unchanged    bigint NOT NULL,
    rejected     bigint NOT NULL,
    started_at   timestamptz NOT NULL,
    finished_at  timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX slices_shop ON sync.slices (shop_id, stream, finished_at);
COMMENT ON TABLE sync.slices IS 'The ledger: one row per slice that was closed or cut, written in the transaction that closed it.';
COMMENT ON COLUMN sync.slices.verdict IS 'clean (counts and ids agree), stable (two walks saw the same ids, the count disagrees), exhausted (no count; a further walk saw nothing new), whole (one unpaged answer) or cut (read in parts instead).';
COMMENT ON COLUMN sync.slices.first_total IS 'total_count of the first page of the last walk.';
COMMENT ON COLUMN sync.slices.last_total IS 'total_count of the last page of the last walk.';
COMMENT ON COLUMN sync.slices.distinct_ids IS 'Different ids seen in the last walk.';
COMMENT ON COLUMN sync.slices.walks IS 'How often the slice was walked until the verdict.';

CREATE TABLE sync.rejects (
    reject_id  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    shop_id    text NOT NULL,
    stream     text NOT NULL,
    record_id  text NOT NULL,
    stored     boolean NOT NULL,
    sqlstate   text,
    reason     text NOT NULL,
    raw        bytea NOT NULL,
    tries      integer NOT NULL DEFAULT 1,
    first_seen timestamptz NOT NULL DEFAULT now(),
    last_seen  timestamptz NOT NULL DEFAULT now(),
    UNIQUE (shop_id, stream, record_id)
);
COMMENT ON TABLE sync.rejects IS 'Records that could not be stored, or not all of whose values fit their columns. A later good version removes the row.';
COMMENT ON COLUMN sync.rejects.record_id IS 'The record''s id, or "sha256:" and a digest of it when it has none.';
COMMENT ON COLUMN sync.rejects.stored IS 'true: the row is in its table, values that do not fit are NULL there and readable in _raw.';
COMMENT ON COLUMN sync.rejects.raw IS 'The record as received. Holds buyer data: treat it like the tables.';
