"""A TikTok Shop to try shopsync against: strict, live and able to fail on demand."""
