"""Every sentence the model is shown. prompts.py puts them together; a test checks that each placeholder is filled.

Fenced blocks are written out by prompts.block and never stand in these texts, except as names of what is asked for.
"""

from azr_jax.tasks.types import Kind

# --- think, think_chat: the long request, and the conversation around it ---

CONVERSATION = (
    "A user asks and an assistant answers. The assistant first reasons step by step, then gives what was asked for. "
    "Its whole reply has this form, with nothing after it:\n\n"
    "<think> reasoning </think>\n<answer> what was asked for, and nothing else </answer>\n\n"
    "User: {request}\n\nAssistant: "
)
THINK_FIRST = (
    "{request}\n\nFirst reason step by step between <think> and </think>. Then give what was asked for, and nothing "
    "else, between <answer> and </answer>, and end there."
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

Your answer has this form:

{layout}

- In the first block stands the program. Its entry point is a function called `f` with at least one parameter{returns}.
- In the second block stand the arguments of one call of `f`, exactly as they would between the parentheses: values \
separated by commas, strings in quotes.

Rules:
- The same call always gives the same result: nothing random, no clock, no files, no network, no processes, no \
printing.{banned}
- The program runs within a few seconds and needs only the standard library; arguments and result are plain values \
such as numbers, strings, lists, tuples, sets and dictionaries.
- No comments that give the result away.{stripped}
- It should take several careful steps to solve: state that changes, conditions that depend on each other, an \
algorithm with a twist. Hard because of its logic, not because of its length.
- Use the whole language where it makes the puzzle better: classes that hold state, recursion, trees and graphs, \
stacks and queues, dynamic programming, backtracking, simulation, parsing, arithmetic on digits and \
bits.{given}{examples}

Now make one new puzzle: one program and one input. Think first about what would make it both new and hard."""

INPUT_PLACE = "value of a, value of b"
RETURNS = " and it returns a value"
BANNED = "\n- These modules and names are not allowed: {names}."
STRIPPED = (
    "\n- Comments are removed, and so are statements at the top level other than imports, functions and classes: keep "
    "every constant inside a function or a class."
)
GIVEN = "\n- These functions exist already; `f` calls each of them, and your block holds `f` alone:\n\n{functions}"
EXAMPLES = (
    "\n\nThese puzzles exist already. Yours should be clearly different from all of them in what it computes:"
    "\n\n{tasks}"
)
EXAMPLE = "<existing>\n{blocks}\n{result}\n</existing>"
RESULT = {
    Kind.DEDUCTION: "returns {output}",
    Kind.ABDUCTION: "returns {output}",
    Kind.ERROR: "ends with {output}",
}

PROPOSE_INDUCTION = """\
Here is a Python program:

{program}

Make a puzzle of it: choose {count} inputs for `f` and write a message. Somebody will see some of the inputs with what \
`f` returns for them, and your message, but not the program, and has to write a program that does the same for the \
other inputs.

Your answer has this form, with {count} input blocks and then the message:

{layout}

Rules:
- Each input block holds the arguments of one call exactly as they would stand between the parentheses: values \
separated by commas, strings in quotes.
- All inputs differ and all are valid for this program. Together they reach its different cases, so that the pairs pin \
down what it does; vary kinds and sizes, and include edge cases.
{message}
- It should take real thought to find the program, and still be possible."""

MESSAGE = {
    "question": (
        "- The message is a coding question or an instruction in words: it says what the program has to do, so that a "
        "strong programmer can work it out from the message and a few pairs. It does not contain the code."
    ),
    "hint": (
        "- The message is in words. It gives a hint of what the program is for, and neither the code nor the rule "
        "itself."
    ),
}
FIRST_PLACE = "arguments of the first call"
SECOND_PLACE = "arguments of the second call"
MESSAGE_PLACE = "the message"

SOLVE = {
    Kind.DEDUCTION: (
        "Here is a Python program and an input for it:\n\n{task}\n\nWhat does `f` return for this input? Work through "
        "the program step by step. Give the returned value as a Python expression, strings in quotes, in this form:"
        "\n\n{layout}"
    ),
    Kind.ABDUCTION: (
        "Here is a Python program and what it returned:\n\n{task}\n\nFind an input for which `f` returns exactly this. "
        "There may be several; any one will do. Give the arguments, as they would stand between the parentheses of the "
        "call (values separated by commas, strings in quotes), in this form:\n\n{layout}"
    ),
    Kind.INDUCTION: (
        "A hidden Python function was called with some inputs. These are the inputs, what it returned, and a message "
        "about it:\n\n{task}\n\nWrite the function. It is called `f`, and it will be tried on other inputs too, so "
        "find the rule and do not list the cases. Give the program in this form:\n\n{layout}"
    ),
    Kind.ERROR: (
        "Here is a Python program and an input for it:\n\n{task}\n\nWhich exception does this call of `f` raise? Work "
        "through the program step by step. Give the exception's class name, or NoError if it returns normally, in this "
        "form:\n\n{layout}"
    ),
}
ANSWER_PLACE = {
    Kind.DEDUCTION: "the returned value",
    Kind.ABDUCTION: "the arguments",
    Kind.ERROR: "the name",
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
