"""What may be configured: every field with its rule, presets, checks across fields, recipes and flags."""
