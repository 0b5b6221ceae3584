"""How Postgres is spoken to: named statements, migrations, cursors, leases, credentials and the sink."""
