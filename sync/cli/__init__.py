"""The commands: parse, call the application, print the outcome."""
