"""The real engine on a clock, a database and an API in memory: years of faults in minutes, from a seed."""
