-- What a record lacks must not pass for what the shop no longer has.

-- The id of a child. A strict reader refuses a child without one: nowhere but in _raw would it be seen.
CREATE FUNCTION sync_strict.lacks_id(text) RETURNS text
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
    RAISE EXCEPTION 'a child of the record has no id' USING ERRCODE = 'not_null_violation';
END
$$;
CREATE FUNCTION sync_strict.key(text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$ SELECT coalesce(nullif($1, ''), sync_strict.lacks_id($1)) $$;
CREATE FUNCTION sync_lenient.key(text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$ SELECT nullif($1, '') $$;

-- Whether children may be missing from the list, so that none of the stored ones is absent for sure. $2 is
-- the name of their id. A strict reader would have failed already.
CREATE FUNCTION sync_strict.is_broken(jsonb, text) RETURNS boolean
    LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$ SELECT false $$;
CREATE FUNCTION sync_lenient.is_broken(jsonb, text) RETURNS boolean
    LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE jsonb_typeof($1)
           WHEN 'array' THEN EXISTS (SELECT FROM jsonb_array_elements($1) AS child
                                      WHERE coalesce(child.value->>$2, '') = '')
           WHEN 'null' THEN false
           ELSE $1 IS NOT NULL END $$;

-- Whether the product has live stock rows other than the ones seen. VOLATILE, so that it looks with eyes of
-- its own: rows that were committed after the calling statement began are there.
CREATE FUNCTION sync_strict.has_other_stock(shop text, product text, seen tid[]) RETURNS boolean
    LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    PERFORM FROM tiktok.inventory AS i
      WHERE i.shop_id = shop AND i.product_id BETWEEN product AND product
        AND i._deleted_at IS NULL AND i.ctid <> ALL (seen)
      ORDER BY i.product_id
      LIMIT 1;
    RETURN FOUND;
END
$$;

ALTER TABLE sync.rejects ADD COLUMN fetched_at timestamptz;
COMMENT ON COLUMN sync.rejects.fetched_at IS 'When the API answered with the record: an older answer does not remove the row. NULL: not known.';
