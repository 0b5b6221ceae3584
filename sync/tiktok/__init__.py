"""How TikTok Shop is spoken to: signatures, envelopes, error codes, pace and tokens."""
