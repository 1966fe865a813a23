"""Controlled studies: configurations, arms, workspace, runner and worker processes.

May import every room but `report`, `aot` and `cli`.
"""
