-- What was stored last, in 16 bytes: an unchanged record is recognised without sending it.
ALTER TABLE tiktok.orders ADD COLUMN _digest bytea;
ALTER TABLE tiktok.products ADD COLUMN _digest bytea;

COMMENT ON COLUMN tiktok.orders._digest IS 'Digest of the bytes of the record as stored; an order that comes with the same one is unchanged. NULL: not known, it is compared whole.';
COMMENT ON COLUMN tiktok.products._digest IS 'Digest of the bytes of the record as stored; a product that comes with the same one is unchanged. NULL: not known, it is compared whole.';
