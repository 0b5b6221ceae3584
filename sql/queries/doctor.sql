-- name: server_facts
-- One row: what the server is like and how many connections it has left. Sessions of other databases
-- count, since the limit is the server's. at_work: processes that keep a connection for their leases here.
SELECT current_setting('server_version_num')::integer / 10000 AS version,
       pg_is_in_recovery() OR current_setting('default_transaction_read_only')::boolean AS is_read_only,
       current_setting('max_connections')::integer AS max_connections,
       current_setting('superuser_reserved_connections')::integer
         + coalesce(current_setting('reserved_connections', true)::integer, 0) AS reserved,
       (SELECT count(*) FROM pg_stat_activity WHERE datid IS NOT NULL AND pid <> pg_backend_pid())::integer
         AS in_use,
       (SELECT count(*) FROM pg_stat_activity AS a
         WHERE a.datid = (SELECT oid FROM pg_database WHERE datname = current_database())
           AND a.application_name = 'shopsync leases')::integer AS at_work,
       has_database_privilege(current_database(), 'CREATE') AS may_create;

-- name: missing_rights
-- What the role may not do with our schemas and tables, a line each; no rows when it may do all.
SELECT format('USAGE on schema %I', n.nspname) AS missing
  FROM pg_namespace AS n
 WHERE n.nspname IN ('sync', 'tiktok', 'bi', 'sync_strict', 'sync_lenient')
   AND NOT has_schema_privilege(n.oid, 'USAGE')
UNION ALL
SELECT format('%s on %I.%I', privilege, n.nspname, c.relname)
  FROM pg_class AS c
  JOIN pg_namespace AS n ON n.oid = c.relnamespace
 CROSS JOIN unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS privilege
 WHERE n.nspname IN ('sync', 'tiktok') AND c.relkind IN ('r', 'p')
   AND NOT has_table_privilege(c.oid, privilege)
 ORDER BY 1;
