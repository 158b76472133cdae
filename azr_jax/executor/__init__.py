"""Runs code nobody trusts. Standard library and libc; never imports JAX."""
