"""The daemon's web server: health, metrics and the status page."""
