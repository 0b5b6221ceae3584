"""Seeded runs in which data moves while it is read, and the copy is judged once it rests."""
