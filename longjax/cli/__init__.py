"""The commands, one file each, and flags made from the fields of dataclasses. May import everything."""
