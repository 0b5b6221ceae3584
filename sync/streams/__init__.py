"""What is copied: each stream is a declaration of one entity of the API."""
