"""The kinds of tasks, one class in one file each. The rooms below know them by tasks/kind.py alone."""
