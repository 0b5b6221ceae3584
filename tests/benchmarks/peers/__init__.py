"""Two peers on the same pages: dlt, and Singer's SDK with target-postgres.

Their lock files are made like ours: uv pip compile --universal --generate-hashes --no-header
--no-annotate --python-version 3.11 dlt.in -o dlt.lock, and the same for singer.
"""
