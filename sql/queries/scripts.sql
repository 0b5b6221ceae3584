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

-- name: be_brief
-- A table that somebody uses is waited for so long, for the rest of the transaction: all who read it
-- meanwhile wait behind us.
SET LOCAL lock_timeout TO '1s';

-- name: table_users
-- Who else uses our tables and views, in the longest transactions: a line for people, or NULL.
SELECT string_agg(format('pid %s (%s, %s, for %s s: %s)', pid, usename, application_name, age_s, tables), '; ')
  FROM (SELECT a.pid, a.usename, coalesce(nullif(a.application_name, ''), 'unnamed') AS application_name,
               round(extract(epoch FROM clock_timestamp() - a.xact_start)) AS age_s,
               string_agg(DISTINCT k.oid::regclass::text, ', ') AS tables
          FROM pg_locks AS l
          JOIN pg_stat_activity AS a USING (pid)
          JOIN pg_class AS k ON k.oid = l.relation
         WHERE l.granted AND l.pid <> pg_backend_pid() AND k.relkind IN ('r', 'v')
           AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
           AND k.relnamespace IN (SELECT oid FROM pg_namespace WHERE nspname IN ('sync', 'tiktok', 'bi'))
         GROUP BY a.pid, a.usename, a.application_name, a.xact_start
         ORDER BY a.xact_start
         LIMIT 3) AS users;
