"""Recurring extraction: the job's file, a run of it, its schedule, and the delivery of its files."""
