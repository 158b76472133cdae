"""Metrics, console, report, watchdog. Called by others; calls nobody."""
