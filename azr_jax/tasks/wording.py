"""Every sentence the model is shown. prompts.py puts them together; a test checks that each placeholder is filled.

Fenced blocks are written out by prompts.block and never stand in these texts, except as names of what is asked for.
"""

from azr_jax.tasks.types import Kind

# --- think: the long request, and the conversation around it ---

CONVERSATION = (
    "A user asks and an assistant answers. The assistant first reasons step by step between <think> and </think>, "
    "then gives what was asked for, and nothing else, between <answer> and </answer>.\n\n"
    "User: {request}\n\nAssistant: "
)

PUZZLE = {
    Kind.DEDUCTION: "They will read your program and your input and have to say what the program returns.",
    Kind.ABDUCTION: "They will read your program and what it returned and have to find an input that leads there.",
    Kind.ERROR: (
        "They will read your program and your input and have to name the exception that the call raises, or say "
        "NoError. Write a program where this is not obvious: one that fails deep inside, or only seems to fail."
    ),
}

PROPOSE = """\
Make a new puzzle about a Python program, for a strong programmer who cannot run code. {puzzle}

Give two fenced blocks:
- ```python``` with the program. Its entry point is a function called `f` with at least one parameter{returns}.
- ```input``` with the arguments of one call of `f`, exactly as they would stand between the parentheses: values \
separated by commas, strings in quotes.

Rules:
- The same call always gives the same result: nothing random, no clock, no files, no network, no processes, no printing.
- The program runs within a few seconds and needs only the standard library; arguments and result are plain values \
such as numbers, strings, lists, tuples, sets and dictionaries.
- No comments that give the result away.
- It should take several careful steps to solve: state that changes, conditions that depend on each other, an \
algorithm with a twist. Hard because of its logic, not because of its length.{given}{examples}

Now write one new puzzle. First think about what would make it both new and hard, then give the two blocks."""

RETURNS = " and it returns a value"
GIVEN = "\n- These functions exist already; `f` calls each of them, and your block holds `f` alone:\n\n{functions}"
EXAMPLES = (
    "\n\nThese puzzles exist already. Yours should be clearly different from all of them in what it computes:"
    "\n\n{tasks}"
)
EXAMPLE = "Puzzle {number}\n{blocks}"

PROPOSE_INDUCTION = """\
Here is a Python program:

{program}

Make a puzzle of it: choose {count} inputs for `f` and write a message about it. Somebody will see some of the \
inputs with what `f` returns for them, and your message, and has to write a program that does the same for the \
others.

Give {count} fenced ```input``` blocks, each with the arguments of one call exactly as they would stand between the \
parentheses (values separated by commas, strings in quotes), then one fenced ```message``` block.

Rules:
- All inputs differ and all are valid for this program. Together they reach its different cases, so that the pairs pin \
down what it does; vary kinds and sizes, and include edge cases.
- The message is in words. It gives a hint of what the program is for, and neither the code nor the rule itself.
- It should take real thought to find the rule, and still be possible."""

SOLVE = {
    Kind.DEDUCTION: (
        "Here is a Python program and an input for it:\n\n{task}\n\nWhat does `f` return for this input? Work through "
        "the program step by step. Give the returned value as a Python expression in one fenced ```output``` block; "
        "strings in quotes."
    ),
    Kind.ABDUCTION: (
        "Here is a Python program and what it returned:\n\n{task}\n\nFind an input for which `f` returns exactly this. "
        "There may be several; any one will do. Give the arguments, as they would stand between the parentheses of the "
        "call (values separated by commas, strings in quotes), in one fenced ```input``` block."
    ),
    Kind.INDUCTION: (
        "A hidden Python function was called with some inputs. These are the inputs, what it returned, and a hint:\n\n"
        "{task}\n\nWrite the function. It is called `f`, and it will be tried on other inputs too, so find the rule "
        "and do not list the cases. Give the program in one fenced ```python``` block."
    ),
    Kind.ERROR: (
        "Here is a Python program and an input for it:\n\n{task}\n\nWhich exception does this call of `f` raise? Work "
        "through the program step by step. Give the exception's class name, or NoError if it returns normally, in one "
        "fenced ```output``` block."
    ),
}

# --- chat: short requests; the references are earlier turns ---

CHAT_PROPOSE = {
    Kind.DEDUCTION: "Write a Python function f and an input for it. Use a python block and an input block.",
    Kind.ABDUCTION: "Write a Python function f and an input for it. Use a python block and an input block.",
    Kind.ERROR: (
        "Write a Python function f and an input for it, where the call may raise an exception. Use a python block and "
        "an input block."
    ),
}
CHAT_GIVEN = " f must call these functions, which exist already:\n{functions}"
CHAT_AGAIN = "Write another one, different from those before."
CHAT_INDUCTION = (
    "{program}\nDescribe this function in a message block, then write {count} inputs for it, each in an input block."
)

CHAT_SOLVE = {
    Kind.DEDUCTION: "{task}\nWhat does f return for this input? Use an output block.",
    Kind.ABDUCTION: "{task}\nFor which input does f return this output? Use an input block.",
    Kind.INDUCTION: "{task}\nWrite the Python function f that does this. Use a python block.",
    Kind.ERROR: "{task}\nWhich exception does this call raise? Name it, or NoError, in an output block.",
}

# --- completion: headings over fenced blocks, for models that only continue text ---

HEADING = "### {title} {number}\n"
TITLE = {
    Kind.DEDUCTION: "Function and input",
    Kind.ABDUCTION: "Function and input",
    Kind.ERROR: "Function and input, maybe an exception",
    Kind.INDUCTION: "Function, message and {count} inputs",
}
COMPLETION_GIVEN = "### Functions that f calls\n{functions}\n"

COMPLETION_SOLVE = {
    Kind.DEDUCTION: "### Function, input and output {number}\n{task}\n",
    Kind.ABDUCTION: "### Function, output and input {number}\n{task}\n",
    Kind.INDUCTION: "### Inputs, outputs, message and function {number}\n{task}\n",
    Kind.ERROR: "### Function, input and exception {number}\n{task}\n",
}
