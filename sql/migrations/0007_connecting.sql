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
CREATE INDEX consents_expire ON sync.consents (expires_at);
COMMENT ON TABLE sync.consents IS 'Consents that were begun: a state works once, and only until it expires. Old ones are forgotten.';
COMMENT ON COLUMN sync.consents.state_digest IS 'SHA-256 of the state in the consent link; the state itself is nowhere.';
COMMENT ON COLUMN sync.consents.app IS 'Name of the app in the settings that the seller is asked to consent to.';
COMMENT ON COLUMN sync.consents.used_at IS 'When the seller came back with the state; NULL while it waits.';
COMMENT ON COLUMN sync.consents.outcome IS 'connected, refused (by the seller) or failed (message says why); NULL while it is not known.';
COMMENT ON COLUMN sync.consents.message IS 'What whoever began the consent should know.';
COMMENT ON COLUMN sync.consents.shop_ids IS 'The shops that the consent connected.';

ALTER TABLE sync.credentials ADD COLUMN consented_at timestamptz,
    ADD COLUMN waiting_since timestamptz,
    ADD COLUMN waiting_shops text[] NOT NULL DEFAULT '{}';
CREATE INDEX credentials_waiting ON sync.credentials (waiting_since) WHERE waiting_since IS NOT NULL;
COMMENT ON COLUMN sync.credentials.consented_at IS 'When the exchange of the consent''s code began, by this database''s clock: an older consent that arrives later changes nothing.';
COMMENT ON COLUMN sync.credentials.waiting_since IS 'Since when a seller whom nobody here asked waits to be confirmed; NULL for all others. Nothing of such a seller is read.';
COMMENT ON COLUMN sync.credentials.waiting_shops IS 'Names of the shops that wait with the seller.';

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
CREATE INDEX hints_due ON sync.hints (shop_id, due_at);
COMMENT ON TABLE sync.hints IS 'What is to be read out of turn. A row is gone once what it names was read and stored, or has failed too often: then the rounds find it.';
COMMENT ON COLUMN sync.hints.stream IS 'The stream of what is to be read, or "consent" where it is to be found out whether the seller''s consent stands.';
COMMENT ON COLUMN sync.hints.key IS 'The id of the order or product; empty for a consent.';
COMMENT ON COLUMN sync.hints.source IS 'notification, or reread (an open order''s turn in the slow round).';
COMMENT ON COLUMN sync.hints.changed_at IS 'When TikTok Shop says it changed; NULL when it says nothing.';
COMMENT ON COLUMN sync.hints.version IS 'Grows when the same is hinted at again: a read that began before does not settle it.';
COMMENT ON COLUMN sync.hints.due_at IS 'When it is to be read; later after a failure.';

-- One probe for each shop that has any: what waits in one of them stands in no other's way.
CREATE VIEW sync.hinted_shops AS
WITH RECURSIVE shops AS (
    SELECT ''::text AS shop_id, NULL::timestamptz AS due_at
     UNION ALL
    SELECT next.shop_id, next.due_at
      FROM shops AS s
     CROSS JOIN LATERAL (SELECT h.shop_id, h.due_at FROM sync.hints AS h
                          WHERE h.shop_id > s.shop_id ORDER BY h.shop_id, h.due_at LIMIT 1) AS next
)
SELECT shop_id, due_at FROM shops WHERE due_at IS NOT NULL;
COMMENT ON VIEW sync.hinted_shops IS 'Shops with hints, and when the first of them is due.';

CREATE TABLE sync.rereads (
    shop_id       text PRIMARY KEY,
    after_order   text NOT NULL DEFAULT '',
    until_order   text NOT NULL DEFAULT '',
    due_at        timestamptz NOT NULL DEFAULT now(),
    round_began   timestamptz NOT NULL DEFAULT now(),
    round_orders  bigint NOT NULL DEFAULT 0,
    open_orders   bigint NOT NULL DEFAULT 0,
    last_round_s  double precision,
    last_round_orders bigint
);
CREATE INDEX rereads_due ON sync.rereads (due_at);
COMMENT ON TABLE sync.rereads IS 'How far the slow round through each shop''s open orders has come.';
COMMENT ON COLUMN sync.rereads.after_order IS 'The order after which the round goes on; empty at its beginning.';
COMMENT ON COLUMN sync.rereads.until_order IS 'The last open order when the round began: those that came since have their turn in the next one.';
COMMENT ON COLUMN sync.rereads.due_at IS 'When the next few orders have their turn.';
COMMENT ON COLUMN sync.rereads.round_orders IS 'Orders that had their turn in this round so far.';
COMMENT ON COLUMN sync.rereads.open_orders IS 'Open orders of the shop when the round began: they are spread over it.';
COMMENT ON COLUMN sync.rereads.last_round_s IS 'Seconds that the last whole round took.';
COMMENT ON COLUMN sync.rereads.last_round_orders IS 'Orders that the last whole round read again.';

-- What is still open, in the order in which the slow round goes. Whoever asks for a state asks for few rows.
DROP INDEX IF EXISTS tiktok.orders_status_idx;
CREATE INDEX orders_open ON tiktok.orders (shop_id, order_id)
 WHERE status IS DISTINCT FROM 'COMPLETED' AND status IS DISTINCT FROM 'CANCELLED';

ALTER TABLE sync.credentials ADD COLUMN warned_at timestamptz;
COMMENT ON COLUMN sync.credentials.warned_at IS 'When it was last said that the consent ends soon; at most once a day.';
COMMENT ON COLUMN sync.credentials.obtained_at IS 'When the access token was issued, by TikTok''s clock: half of its life is counted from then.';
ALTER TABLE sync.leases ADD COLUMN wanted_at timestamptz;
COMMENT ON COLUMN sync.leases.wanted_at IS 'When a process last waited for the shop: whoever holds it for single changes only gives way.';
