"""What the presets fill in where a recipe leaves a field None: what the paper says, and what its public code does."""

from __future__ import annotations

from typing import Any

PRESETS: dict[str, dict[str, Any]] = {
    "paper": {
        "tasks.message_leak": 0.8,
        "tasks.deduction_answer": "literal",
        "tasks.abduction_answer": "literal",
        "tasks.copies": "skeletons",
        "tasks.induction_pairs": "inducible",
        "buffer.evict": "oldest_first",
        "rewards.duplicate": -0.5,
        "rewards.zero_learnability": 0.0,
        "rewards.invalid": -0.5,
        "rewards.intrinsic_cap": 0.0,
        "learner.weighting": "sequence",
        "learner.entropy": 0.001,
        "learner.clip_high": 0.2,
        "learner.clip_dual": 0.0,
    },
    "reference": {
        "tasks.message_leak": 0.0,
        "tasks.deduction_answer": "any",
        "tasks.abduction_answer": "any",
        "tasks.copies": "exact",
        "tasks.induction_pairs": "as_given",
        "buffer.evict": "keep_oldest",
        "rewards.duplicate": "full",
        "rewards.zero_learnability": -0.5,
        "rewards.invalid": -1.0,
        "rewards.intrinsic_cap": 0.5,
        "learner.weighting": "token",
        "learner.entropy": 0.0,
        "learner.clip_high": 0.28,
        "learner.clip_dual": 3.0,
    },
}
