-- name: create_scripts_table
-- The note of every script that ran. Outside of schema sync, which a script creates.
CREATE TABLE IF NOT EXISTS public.shopsync_scripts (
    name       text PRIMARY KEY,
    checksum   text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
);

-- name: scripts_table_exists
SELECT to_regclass('public.shopsync_scripts') IS NOT NULL;

-- name: lock_scripts
-- Ends with the transaction. The number is arbitrary and only has to be the same everywhere.
SELECT pg_advisory_xact_lock(5489217730045);

-- name: noted_scripts
SELECT name, checksum FROM public.shopsync_scripts;

-- name: note_script
-- $1 name, $2 checksum.
INSERT INTO public.shopsync_scripts (name, checksum) VALUES ($1, $2);

-- name: note_view
-- $1 name, $2 checksum of the version that is in force now.
INSERT INTO public.shopsync_scripts AS s (name, checksum) VALUES ($1, $2)
ON CONFLICT (name) DO UPDATE SET checksum = EXCLUDED.checksum, applied_at = now();

-- name: server_encoding
SELECT current_setting('server_encoding');
