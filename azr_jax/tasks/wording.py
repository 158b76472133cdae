"""The sentences that more than one kind is shown with. prompts.py and the kinds put them together.

A test checks that each placeholder is filled. Fenced blocks are written out by prompts.block and never stand in these
texts, except as names of what is asked for.
"""

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

PROPOSE = "{said}\n\nYour answer has this form:\n\n{layout}\n\n{rules}{given}{examples}"
RULES = """\
Rules:
- The same call always gives the same result: nothing random, no clock, no files, no network, no processes, no \
printing.{banned}
- The program runs within a few seconds and needs only the standard library; arguments and result are plain values \
such as numbers, strings, lists, tuples, sets and dictionaries.
- No comments that give the result away.{stripped}"""
INPUT_PLACE = "value of a, value of b"
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
EXAMPLE = "<existing>\n{blocks}{result}\n</existing>"

# --- chat: short requests; the references are earlier turns ---

CHAT_GIVEN = " f must call these functions, which exist already:\n{functions}"
CHAT_AGAIN = "Write another one, different from those before."

# --- completion: headings over fenced blocks, for models that only continue text ---

HEADING = "### {title} {number}\n"
COMPLETION_GIVEN = "### Functions that f calls\n{functions}\n"
