"""shopsync copies every connected TikTok Shop into Postgres and keeps the copy true."""

__version__ = "0.1.0"
