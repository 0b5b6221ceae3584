-- Consents that are under way, what TikTok Shop's notifications hint at, and the re-read of open orders.

CREATE TABLE sync.consents (
    state_digest  bytea PRIMARY KEY,
    app           text NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT now(),
    expires_at    timestamptz NOT NULL,
    used_at       timestamptz,
    outcome       text,
    message       text,
    shop_ids      text[] NOT NULL DEFAULT '{}'
);
COMMENT ON TABLE sync.consents IS 'Consents that were begun: a state works once, and only until it expires. Old ones are forgotten.';
COMMENT ON COLUMN sync.consents.state_digest IS 'SHA-256 of the state in the consent link; the state itself is nowhere.';
COMMENT ON COLUMN sync.consents.app IS 'Name of the app in the settings that the seller is asked to consent to.';
COMMENT ON COLUMN sync.consents.used_at IS 'When the seller came back with the state; NULL while it waits.';
COMMENT ON COLUMN sync.consents.outcome IS 'connected, refused (by the seller) or failed (message says why); NULL while it is not known.';
COMMENT ON COLUMN sync.consents.message IS 'What whoever began the consent should know.';
COMMENT ON COLUMN sync.consents.shop_ids IS 'The shops that the consent connected.';

CREATE TABLE sync.notifications (
    notification_id text PRIMARY KEY,
    received_at     timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX notifications_received ON sync.notifications (received_at);
COMMENT ON TABLE sync.notifications IS 'Notifications that were heard, so that one that is sent again is not acted on twice. Forgotten after a few days.';

CREATE TABLE sync.hints (
    shop_id   text NOT NULL,
    stream    text NOT NULL,
    key       text NOT NULL,
    source    text NOT NULL,
    heard_at  timestamptz NOT NULL DEFAULT now(),
    changed_at timestamptz,
    version   bigint NOT NULL DEFAULT 1,
    tries     integer NOT NULL DEFAULT 0,
    due_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (shop_id, stream, key)
);
CREATE INDEX hints_due ON sync.hints (due_at);
COMMENT ON TABLE sync.hints IS 'What is to be read out of turn. A row is gone once what it names was read and stored, or has failed too often: then the rounds find it.';
COMMENT ON COLUMN sync.hints.stream IS 'The stream of what is to be read, or "consent" where it is to be found out whether the seller''s consent stands.';
COMMENT ON COLUMN sync.hints.key IS 'The id of the order or product; empty for a consent.';
COMMENT ON COLUMN sync.hints.source IS 'notification, or reread (an open order''s turn in the slow round).';
COMMENT ON COLUMN sync.hints.changed_at IS 'When TikTok Shop says it changed; NULL when it says nothing.';
COMMENT ON COLUMN sync.hints.version IS 'Grows when the same is hinted at again: a read that began before does not settle it.';
COMMENT ON COLUMN sync.hints.due_at IS 'When it is to be read; later after a failure.';

CREATE TABLE sync.rereads (
    shop_id       text PRIMARY KEY,
    after_order   text NOT NULL DEFAULT '',
    due_at        timestamptz NOT NULL DEFAULT now(),
    round_began   timestamptz NOT NULL DEFAULT now(),
    round_orders  bigint NOT NULL DEFAULT 0,
    last_round_s  double precision,
    last_round_orders bigint
);
CREATE INDEX rereads_due ON sync.rereads (due_at);
COMMENT ON TABLE sync.rereads IS 'How far the slow round through each shop''s open orders has come.';
COMMENT ON COLUMN sync.rereads.after_order IS 'The order after which the round goes on; empty at its beginning.';
COMMENT ON COLUMN sync.rereads.due_at IS 'When the next few orders have their turn.';
COMMENT ON COLUMN sync.rereads.round_orders IS 'Orders that had their turn in this round so far.';
COMMENT ON COLUMN sync.rereads.last_round_s IS 'Seconds that the last whole round took.';
COMMENT ON COLUMN sync.rereads.last_round_orders IS 'Orders that the last whole round read again.';

-- What is still open, in the order in which the slow round goes. Whoever asks for a state asks for few rows.
DROP INDEX IF EXISTS tiktok.orders_status_idx;
CREATE INDEX orders_open ON tiktok.orders (shop_id, order_id)
 WHERE status IS DISTINCT FROM 'COMPLETED' AND status IS DISTINCT FROM 'CANCELLED';
