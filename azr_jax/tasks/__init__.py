"""What a task is: prompts, parsing, buffers, rewards, novelty. Plain Python and the standard library, no arrays."""
