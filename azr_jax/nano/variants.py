"""What `nano.ablate` can play: each variant by the fields that differ from configs/nano.py, in groups.

paper      the ablations of the paper, the reference preset, and controls that must not learn
old        rules as they were before they were closed, one by one and all together
tasks      options of proposing, buffers and rewards
learner    options of advantages, losses and sampling
pipeline   iterations that overlap: how old tokens may be, with importance weights and without
"""

from __future__ import annotations

from collections.abc import Sequence

Fields = dict[str, str]
# Lenient reading goes with sampling to the end of a text: `no_stop` is what to compare it with.
LENIENT = {"tasks.format": "lenient", "rollout.stop_at_answer": "false"}
# The cache of older weights is kept: of the two the one that is farther from the policy.
STALE = {"pipeline.mode": "overlapped", "pipeline.kv_cache": "keep"}
UNWEIGHTED = {"learner.importance": "none"}
# Solved in its turn, or with slots for one iteration alone, nothing gets that old.
EIGHT = STALE | {"pipeline.staleness": "8", "pipeline.solve_after": "0.5", "rollout.slots": "1024"}
FOUR_STEPS = {"learner.minibatches": "4"}
OLD = {
    "old_format": LENIENT,
    "old_induction": {"tasks.induction_fewest": "2"},
    "old_duplicates": {"rewards.duplicate": "full"},
    "old_messages": {"tasks.message_leak": "0"},
    "old_answers": {"tasks.deduction_answer": "any", "tasks.abduction_answer": "any"},
    "old_pairs": {"tasks.induction_pairs": "as_given"},
    "old_copies": {"tasks.copies": "exact"},
}
GROUPS: dict[str, dict[str, Fields]] = {
    "paper": {
        "full": {},
        "solver_only": {"tasks.train_proposer": "false"},
        "no_references": {"tasks.references": "0"},
        "deduction_only": {"tasks.kinds": "deduction"},
        "no_induction": {"tasks.kinds": "deduction,abduction"},
        "reference_preset": {"preset": "reference"},
        "train_on_estimates": {"tasks.train_on_estimates": "true"},
        "shuffled_rewards": {"rewards.control": "shuffled"},
        "flipped_rewards": {"rewards.control": "flipped"},
    },
    "old": {
        "old_rules": {field: value for fields in OLD.values() for field, value in fields.items()},
        **OLD,
        "no_stop": {"rollout.stop_at_answer": "false"},
        "duplicates_nothing": {"rewards.duplicate": "0"},
        "invalid_minus_one": {"rewards.invalid": "-1"},
    },
    "tasks": {
        "frontier": {"buffer.solve_sampling": "frontier"},
        "mistakes": {"buffer.solve_sampling": "mistakes"},
        "half_new": {"buffer.solve_sampling": "half_new"},
        "filter_non_one": {"buffer.valid_program_filter": "non_one"},
        "filter_non_extremes": {"buffer.valid_program_filter": "non_extremes"},
        "references_learnable": {"buffer.reference_sampling": "learnability"},
        "memory_nearest": {"rewards.memory.nearest": "0.5"},
        "memory_mean": {"rewards.memory.mean": "0.5"},
        "memory_both": {"rewards.memory.nearest": "0.5", "rewards.memory.mean": "0.5"},
        "novelty_gate": {"tasks.novelty_gate": "0.2"},
        "peak": {"rewards.learnability": "peak"},
        "peak_narrow": {"rewards.learnability": "peak", "rewards.peak_power": "3"},
        "peak_at_a_fifth": {"rewards.learnability": "peak", "rewards.peak_at": "0.2"},
        "induction_fraction": {"tasks.induction_reward": "fraction"},
        "vocab_dropout": {"rollout.propose_vocab_dropout": "0.1"},
    },
    "learner": {
        "reinforce_pp": {"learner.advantage": "reinforce_pp"},
        "rae": {"learner.advantage": "rae"},
        "grpo": {"learner.advantage": "grpo", "tasks.train_on_estimates": "true"},
        "rloo": {"learner.advantage": "rloo", "tasks.train_on_estimates": "true"},
        "token_mean": {"learner.loss": "token_mean"},
        "dr_grpo": {"learner.policy_loss": "dr_grpo", "learner.loss": "token_mean"},
        # Ratios leave 1 only where an iteration has several steps: `four_steps` is what these compare with.
        "four_steps": FOUR_STEPS,
        "four_steps_gspo": FOUR_STEPS | {"learner.policy_loss": "gspo"},
        "four_steps_cispo": FOUR_STEPS | {"learner.policy_loss": "cispo"},
        "importance_token": {"learner.importance": "token"},
        "importance_token_masked": {"learner.importance": "token", "learner.importance_mode": "mask"},
        "importance_token_two_sided": {"learner.importance": "token", "learner.importance_mode": "two_sided"},
        "importance_sequence": {"learner.importance": "sequence"},
        "importance_sequence_mean": {"learner.importance": "sequence", "learner.importance_length_norm": "true"},
        "kl": {"learner.kl": "0.01"},
        "kl_propose": {"learner.kl": "0.01", "learner.kl_roles": "propose"},
        "propose_half": {"learner.weights": "propose=0.5"},
        "propose_twice": {"learner.weights": "propose=2"},
        "overlong_mask": {"learner.overlong": "mask"},
        "repetition_stop": {"rollout.repetition_stop": "8"},
    },
    "pipeline": {
        "overlapped_0": STALE | {"pipeline.staleness": "0"},
        "overlapped_1": STALE,
        "overlapped_2": STALE | {"pipeline.staleness": "2"},
        "overlapped_4": STALE | {"pipeline.staleness": "4"},
        "overlapped_8": STALE | {"pipeline.staleness": "8"},
        "overlapped_1_unweighted": STALE | UNWEIGHTED,
        "overlapped_2_unweighted": STALE | UNWEIGHTED | {"pipeline.staleness": "2"},
        "overlapped_4_unweighted": STALE | UNWEIGHTED | {"pipeline.staleness": "4"},
        "overlapped_1_sequence": STALE | {"learner.importance": "sequence"},
        "overlapped_1_recompute": {"pipeline.mode": "overlapped"},
        "overlapped_1_early": STALE | {"pipeline.solve_after": "0.75"},
        "overlapped_2_early": STALE | {"pipeline.staleness": "2", "pipeline.solve_after": "0.75"},
        "overlapped_8_early": EIGHT,
        "overlapped_8_early_unweighted": EIGHT | UNWEIGHTED,
        "overlapped_1_sampler": STALE | UNWEIGHTED | {"learner.old_logprobs": "sampler"},
        "overlapped_1_shuffled": STALE | {"rewards.control": "shuffled"},
    },
}
VARIANTS = {name: fields for group in GROUPS.values() for name, fields in group.items()}


def chosen(words: Sequence[str]) -> list[str]:
    """Names of variants, from names and names of groups, each once; a word that is neither is a KeyError."""
    known = GROUPS | {name: {name: fields} for name, fields in VARIANTS.items()}
    return list(dict.fromkeys(name for word in words for name in known[word]))
