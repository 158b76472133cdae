"""Answers of kinds that no mended rule was made from, decided by eye before the judges saw them.

Of the 81 letters 73 were right at first and of the 94 mathematical answers 93; what was wrong is marked with `was`.
"""

import pytest

from azr_jax.evals.letters import letter_in
from azr_jax.evals.mathematics import MathJudge
from tests.evals.at_once import is_right

# (answer, the letter that a reader finds)
LETTERS = [
    (
        "A) 12 N — too small.\nB) 24 N — matches ours.\nC) 36 N — too large.\n\nThe correct option is therefore B.",
        "B",
    ),
    ("A: incorrect\nB: incorrect\nC: correct\nD: incorrect", "C"),  # was None
    ("A) False. B) False. C) True. D) False.", "C"),  # was None
    ("Evaluating:\n(A) is false, since x<0.\n(B) is false as well.\n(C) is true.\n(D) is false.\n\nAnswer: (C)", "C"),
    ("A. Mercury\nB. Venus\nC. Earth\nD. Mars\n\nThe third planet is Earth, which is option C.", "C"),  # was None
    ("Looking at the options: (A) 3, (B) 5, (C) 7. We computed 5. So the answer is (B) 5.", "B"),
    ("Since none of A, B, C, or D fit, the answer must be E.", "E"),
    ("Options A and B are both wrong. Option D is right.", "D"),
    ("It is either A or B. Since x > 0, it's B.", "B"),
    ("It could be A or B.", None),
    ("The answer could be A, B or C.", None),
    ("Both A and C are correct.", None),
    ("Neither A nor B is right; C is.", "C"),  # was B
    ("We can eliminate A, B, and C, leaving D.", "D"),  # was None
    ("By elimination, D remains.", "D"),  # was None
    ("Therefore the best answer among the choices is (G) 4.5 m/s.", "G"),
    ("**Final Answer: (H)**", "H"),
    ("**Final answer**: H", "H"),
    ("### Answer\nF", "F"),
    ("## Final Answer\n\n(D) 12 m/s", "D"),
    ("$\\boxed{\\mathrm{(E)}}$", "E"),
    ("$\\boxed{\\text{E}}$.", "E"),
    ("\\[\n\\boxed{D}\n\\]", "D"),
    ("\\boxed{D. 42}", "D"),
    ("\\boxed{\\text{D. It is hot}}", "D"),
    ("\\boxed{D) 42}", "D"),
    ("The answer is \\(\\boxed{A}\\)", "A"),
    ("The correct answer is option (A).", "A"),
    ("The correct answer is:\n\n(A) The king", "A"),
    ("The correct answer is:\n\nA. The king", "A"),
    ("The answer is:\n\n**B. The queen**", "B"),
    ("Correct answer: J", "J"),
    ("Correct Option: (I)", "I"),
    ("answer: b", "B"),
    ("Ans: D", "D"),
    ("Ans. (D)", "D"),
    ("So, the answer would be C.", "C"),
    ("Hence, the correct answer is (A), not (B).", "A"),
    ("The answer isn't B; it's D.", "D"),
    ("I first thought B, but the answer is F.", "F"),
    ("The answer is B. No wait, let me recompute. The answer is G.", "G"),
    ("I am not sure, but I'd go with E.", "E"),
    ("I'd pick option C.", "C"),
    ("My choice: A", "A"),
    ("I choose (J)", "J"),
    ("Vitamin C is needed.", None),
    ("Hepatitis B is a disease. The virus is spread by", None),
    ("The capacitance C is 5 F.", None),
    ("The force F = 10 N acts on the body B.", None),
    ("Given P(A) = 0.3 and P(B) = 0.4, P(A and B) = 0.12", None),
    ("Therefore P(A|B) = 0.3, which matches option (D).", "D"),
    ("Plan A failed, plan B failed, so the answer is (C) plan C.", "C"),
    ("<think>Option A looks right</think>\nThe answer is (B).", "B"),
    ("<think>A or B?</think><answer>C</answer>", "C"),
    ("<think>A or B?</think><answer>(C) 17</answer>", "C"),
    ("<think>A or B?</think><answer>The answer is C</answer>", "C"),
    ("<answer>\\boxed{C}</answer>", "C"),
    ("<answer>C.</answer>", "C"),
    ("<answer></answer>", None),
    ("A", "A"),
    ("(a)", "A"),
    ("A) 5 is too small. B) 6 is right.", "B"),  # was None
    (
        "Option A is incorrect, being cold.\nOption B is incorrect, being wet.\nOption C is correct, being dry.",
        "C",
    ),
    ("Option A: no.\nOption B: no.\nOption C: yes, this is the right one.\nOption D: no.", "C"),  # was None
    ("1. A is wrong\n2. B is wrong\n3. C is right\n", "C"),
    ("A) is not correct because the sum is 3.\nB) is not correct because the sum is 4.\nC) is", None),
    ("The correct answer is C because:\nA) is too small\nB) is too big\nC) fits\nD) is negative", "C"),
    ("The answer is A.\n\nExplanation: B is wrong, C is wrong, D is wrong.", "A"),
    ("The answer is not among the options.", None),
    ("None of the above.", None),
    ("K", None),
    ("The answer is K.", None),
    ("I", "I"),
    ("I cannot answer this.", None),
    ("I believe it is A", "A"),
    ("The statement A is true and so the answer is A.", "A"),
    ("A) False. B) True. C) 6 might", None),
    ("A) Correct. B) It is", None),
    ("A) This is correct if x > 0. B) This is wrong.", None),
    ("A) This is correct. B) This is correct too.", None),
    ("A) no. B) no. C) no. D) no.", None),
]
# (gold, answer, suite, whether it is right)
MATHEMATICS = [
    ("28", "\\boxed{28\\text{ hours and }35\\text{ minutes}}", "math500", False),
    ("1234", "\\boxed{1\\,234}", "math500", True),
    ("90^\\circ", "\\boxed{90°}", "math500", True),
    ("90", "\\boxed{90°}", "math500", True),
    ("5", "\\boxed{5~\\mathrm{kg}}", "math500", True),
    ("3.21", "\\boxed{\\mathbf{3.21}}", "math500", True),
    ("14", "\\boxed 14", "math500", True),
    ("14", "The answer is \\boxed 14.", "math500", True),
    ("\\frac{1}{2}", "\\boxed{0.5}", "math500", True),
    ("\\frac{1}{2}", "\\boxed{\\dfrac12}", "math500", True),
    ("\\frac{1}{2}", "\\boxed{\\tfrac{1}{2}}", "math500", True),
    ("\\frac{1}{2}", "\\boxed{1/2}", "math500", True),
    ("\\frac{1}{2}", "\\boxed{\\frac{2}{4}}", "math500", True),
    ("\\frac{1}{2}", "\\boxed{-\\frac{1}{2}}", "math500", False),
    ("\\frac{1}{3}", "\\boxed{0.333}", "math500", False),
    ("2\\sqrt{3}", "\\boxed{\\sqrt{12}}", "math500", True),
    ("2\\sqrt{3}", "\\boxed{2√3}", "math500", True),
    ("2\\sqrt{3}", "\\boxed{3.46}", "math500", False),
    ("x^2+2x+1", "\\boxed{(x+1)^2}", "math500", True),
    ("x^2+2x+1", "\\boxed{1+2x+x^{2}}", "math500", True),
    ("(3,4)", "\\boxed{(3, 4)}", "math500", True),
    ("(3,4)", "\\boxed{(4,3)}", "math500", False),
    ("(3,4]", "\\boxed{(3,4)}", "math500", False),
    ("[0,\\infty)", "\\boxed{[0, +\\infty)}", "math500", True),
    ("(-\\infty,2)\\cup(3,\\infty)", "\\boxed{(-\\infty, 2) \\cup (3, \\infty)}", "math500", True),
    ("1,2,3", "\\boxed{3, 2, 1}", "math500", True),
    ("1,2,3", "\\boxed{1, 2}", "math500", False),
    ("\\{1,2\\}", "\\boxed{\\{2,1\\}}", "math500", True),
    ("\\pi", "\\boxed{\\pi}", "math500", True),
    ("\\pi", "\\boxed{3.14}", "math500", False),
    ("\\frac{\\pi}{6}", "\\boxed{\\pi/6}", "math500", True),
    ("\\frac{\\pi}{6}", "\\boxed{30^\\circ}", "math500", False),
    ("10\\%", "\\boxed{10\\%}", "math500", True),
    ("10\\%", "\\boxed{10}", "math500", True),
    ("10", "\\boxed{10\\%}", "math500", True),
    ("\\$32,348", "\\boxed{32348}", "math500", True),
    ("32348", "\\boxed{\\$32{,}348}", "math500", True),
    ("1,000,000", "\\boxed{1000000}", "math500", True),
    ("10^6", "\\boxed{1000000}", "math500", True),
    ("-2", "\\boxed{\u22122}", "math500", True),
    ("2", "\\boxed{x=2}", "math500", True),
    ("2", "\\boxed{x = 2 \\text{ or } x = 3}", "math500", False),
    ("2", "\\boxed{2.0}", "math500", True),
    ("2", "\\boxed{2\\text{ cm}}", "math500", True),
    ("2", "\\boxed{2\\,\\text{cm}^2}", "math500", True),
    ("\\text{Evelyn}", "\\boxed{\\text{Evelyn}}", "math500", True),
    ("\\text{Evelyn}", "\\boxed{Evelyn}", "math500", True),
    ("\\text{Evelyn}", "\\boxed{\\text{Carla}}", "math500", False),
    ("\\text{(C)}", "\\boxed{C}", "math500", True),
    ("\\text{even}", "\\boxed{\\text{odd}}", "math500", False),
    ("\\begin{pmatrix} 1 \\\\ 2 \\end{pmatrix}", "\\boxed{\\begin{pmatrix}1\\\\2\\end{pmatrix}}", "math500", True),
    ("\\begin{pmatrix} 1 \\\\ 2 \\end{pmatrix}", "\\boxed{\\begin{bmatrix}1\\\\2\\end{bmatrix}}", "math500", True),
    ("\\begin{pmatrix} 1 \\\\ 2 \\end{pmatrix}", "\\boxed{\\begin{pmatrix}2\\\\1\\end{pmatrix}}", "math500", False),
    ("3+4i", "\\boxed{4i+3}", "math500", True),
    ("3+4i", "\\boxed{3-4i}", "math500", False),
    ("\\binom{10}{3}", "\\boxed{120}", "math500", True),
    ("120", "\\boxed{5!}", "math500", True),
    ("4210_{5}", "\\boxed{4210_5}", "math500", True),
    ("11101_2", "\\boxed{29}", "math500", False),
    ("2^{10}", "\\boxed{1024}", "math500", True),
    ("y=2x+3", "\\boxed{y = 3 + 2x}", "math500", True),
    ("y=2x+3", "\\boxed{2x+3}", "math500", True),
    ("x \\le 2", "\\boxed{x ≤ 2}", "math500", True),
    ("72", "<think>it is 71</think><answer>72</answer>", "math500", True),
    ("72", "<think>it is 72</think><answer>71</answer>", "math500", False),
    ("72", "<answer>The answer is 72.</answer>", "math500", True),
    ("72", "<answer>\\boxed{72}</answer>", "math500", True),
    ("72", "<answer>$72$</answer>", "math500", True),
    ("72", "I think it is 72", "math500", False),
    ("72", "\\boxed{71} then \\boxed{72}", "math500", True),
    ("72", "\\boxed{72", "math500", False),
    ("18", "She makes 9 * 2 = $18 every day. The answer is 18.", "gsm8k", True),
    ("18", "So the total is **$18**.", "gsm8k", True),
    ("18", "#### 18", "gsm8k", True),
    ("18", "#### $18.00", "gsm8k", True),
    ("70000", "The profit is $70,000.", "gsm8k", True),
    ("70000", "The profit is 70 000 dollars", "gsm8k", True),
    ("3", "It takes 2+1=3 bolts in total.", "gsm8k", True),
    ("540", "He runs 3*60=180 meters, so 180*3 = 540 meters a week.", "gsm8k", True),
    ("540", "540 meters.\n\nCheck: 540 / 180 = 3", "gsm8k", False),
    ("20", "The answer is 20 cups, since 60 - 40 = 20.", "gsm8k", True),
    ("64", "He pays 8*5 + 8*3 = 40+24 = $64.", "gsm8k", True),
    ("64", "The total is \\boxed{64}.", "gsm8k", True),
    ("64", "The total is \\boxed{\\$64}.", "gsm8k", True),
    ("0.5", "The answer is 1/2.", "gsm8k", True),
    ("160", "160 minutes, that is 2 hours and 40 minutes.", "gsm8k", False),
    ("45", "The answer is 45 miles.", "gsm8k", True),
    ("45", "The answer is forty-five.", "gsm8k", False),
    ("5", "5 and a half", "gsm8k", False),  # was taken
    ("460", "Eliza earns $460", "gsm8k", True),
    ("366", "366 downloads.", "gsm8k", True),
    ("25", "The answer is $25.", "gsm8k", True),
    ("-5", "The answer is -5.", "gsm8k", True),
    ("2.5", "So it costs $2.50", "gsm8k", True),
]


@pytest.mark.parametrize(("text", "letter"), LETTERS)
def test_letters_are_those_that_a_reader_finds(text, letter):
    assert letter_in(text, "boxed") == letter


@pytest.fixture(scope="module")
def judge():
    made = MathJudge(1, limit_s=10.0)  # generous: a loaded machine is no wrong answer
    yield made
    made.close()


def test_mathematics_is_decided_as_by_a_reader(judge):
    wrong = [case for case in MATHEMATICS if is_right(judge, case[2], case[0], case[1]) != case[3]]
    assert not wrong
