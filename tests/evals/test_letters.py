"""Which letter an answer chooses, however it is worded; a walk through the options chooses none of them by itself."""

import pytest

from azr_jax.evals.letters import letter_in


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("The answer is (C).", "C"),
        ("\\boxed{\\text{D}}", "D"),
        ("\\boxed{(A)} or rather \\boxed{J}", "J"),
        ("B", "B"),
        ("I do not know", None),
        ("<think>It is B", None),
        ("**Answer:** C", "C"),
        ("Final Answer: (c)", "C"),
        ("The Answer is $C$", "C"),
        ("[C]", "C"),
        ("c", "C"),
        ("C - what it says", "C"),
        ("\\boxed{\\textbf{(C)}}", "C"),
        ("\\boxed{\\text{Option C}}", "C"),
        ("\\boxed{5\\text{ J}}", None),
        ("The correct choice is (C).", "C"),
        ("the answer I get is (C)", "C"),
        ("The option I chose is C", "C"),
        ("the answer is (C) since option A is wrong", "C"),
        ("A is not it, I take C", "C"),
        ("A long text about a thing", None),
    ],
)
def test_letters(text, letter):
    assert letter_in(text, "boxed") == letter


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("A) 5 is too small. B) 6 is not enough. C) 7 fits. D) 8 is too large. So C", "C"),
        ("A) 5 is too small. B) 6 is not enough. C) 7 fits. D) 8 is too large. So C.", "C"),
        ("A) 5 is too small.\nB) 6 is not enough.\nC) 7 fits.\n\nTherefore, the correct option is C.", "C"),
        ("A) 5 is too small.\nB) 6 is not enough.\nC) 7 fits.\n\nThus, it is (C).", "C"),
        ("A) 5 is too small.\nB) 6 is not enough.\n\nHence (D)", "D"),
        ("A. Wrong because 5 < 6.\nB. Wrong, too.\nC. This holds.\nC is correct.", "C"),
        ("A. 5\nB. 6\nC. 7\nWe are left with C", "C"),
        ("(A) no, (B) no, so (E)", "E"),
        ("- A) 5: no\n- B) 6: no\n- C) 7: yes\n\nI choose C.", "C"),
        ("**A)** 5 is too small.\n**B)** 6 fits.\n\n**B** is the correct answer.", "B"),
        ("Option A: 5 is too small. Option B: 6 is too small. Option C: 7 fits. So the answer is C.", "C"),
        (
            "Option A: 5 is too small.\nOption B: 6 is too small.\nOption C: 7.\nThe correct choice is C",
            "C",
        ),
        ("A) 5 is too small.\nB) 6 is too small.\nC) 7 fits.\nOnly (C) fits.", "C"),
        ("A) 5 is too small.", "A"),
        ("A) 5 is too small. B) 6 is too", None),
        ("A) 5 is too small.\nB) 6 is too small.\nC) 7", None),
        ("Option A: 5 is too small. Option B: 6 is", None),
        ("Let us go through the options.\nA) 5 is too small.\nB) 6 is too small.\nC) 7 might", None),
        ("A. 5 m is the width.\nB. 6 m is the height.\nC. 7 m", None),
        ("C) Paris", "C"),
        ("C) Paris. A) is in Spain and B) in Italy.", "C"),
        ("C. Paris\n\nExplanation: it is the capital of France.", "C"),
        ("(D) None of these", "D"),
        ("D - none of these", "D"),
        ("Option B", "B"),
        ("The answer is B because A is too small.", "B"),
        ("The correct answer is: (H)", "H"),
        ("Answer: J", "J"),
        ("The answer is not A. The answer is B.", "B"),
        ("The answer is (A). Wait. The answer is (B).", "B"),
        ("A is wrong, B is wrong, so it must be C", "C"),
        ("B is the best answer.", "B"),
        ("It has to be option G.", "G"),
        ("Of these, (F) is right; (G) is wrong.", "F"),
        ("I think the answer is I.", "I"),
        ("I think so", None),
        ("So I would say D", "D"),
        ("So A is wrong and therefore B", "B"),
        ("Therefore, option E is the only one left.", "E"),
        ("We select D.", "D"),
        ("\\boxed{C}", "C"),
        ("\\boxed C", "C"),
        ("A) no. B) no. \\boxed{\\text{(C)}}", "C"),
        ("A) 5 is too small. B) 6 fits. \\boxed{6}", None),
        ("\\boxed{42}", None),
        ("", None),
    ],
)
def test_answers_that_walk_through_the_options(text, letter):
    """`A) 5 is too small. ... So C` was A, and so was every answer cut off in its walk."""
    assert letter_in(text, "boxed") == letter
