"""The steps that little programs are made of: what a statement takes, what it makes, its text, and words for it.

A type is a letter: i int, s str, l list of int, w list of str, d dict from str to int. In a template {a} is the value
the program is at, {b} a second one, {r} the name of the result, {k} a small number, {m} a number from 2 to 4, {c} and
{e} characters. {E} is something made of a number x, {C} a condition on x, {S} something made of a character ch, and
{D} a condition on ch; they come from the tables at the end. A step without {r} changes {a} in place.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Step:
    takes: str  # types of {a} and, where there are two, {b}
    makes: str
    code: str
    words: str  # what the step does, after "it"

    @property
    def in_place(self) -> bool:
        return "{r}" not in self.code

    @property
    def lines(self) -> int:
        return self.code.count("\n") + 1

    @property
    def expression(self) -> str:
        """The right side, where the step is nothing but `{r} = ...`; empty otherwise."""
        return self.code.removeprefix("{r} = ") if self.lines == 1 and self.code.startswith("{r} = ") else ""


STEPS = (
    # numbers
    Step("i", "i", "{r} = {a} + {k}", "adds {k}"),
    Step("i", "i", "{r} = {a} - {k}", "takes away {k}"),
    Step("i", "i", "{r} = {a} * {m}", "multiplies by {m}"),
    Step("i", "i", "{r} = {a} % {m}", "takes the rest by {m}"),
    Step("i", "i", "{r} = max({a}, {k})", "takes at least {k}"),
    Step("i", "i", "if {a} > {k}:\n    {a} -= {m}", "takes away {m} above {k}"),
    Step("i", "i", "if {a} % 2 == 0:\n    {a} += {k}\nelse:\n    {a} *= {m}", "adds {k} to even and multiplies odd"),
    Step("ii", "i", "{r} = {a} + {b}", "adds both"),
    Step("ii", "i", "{r} = {a} - {b}", "takes the difference"),
    Step("ii", "i", "{r} = {a} * {b}", "multiplies both"),
    Step("i", "l", "{r} = list(range({a}))", "counts up"),
    Step("i", "s", "{r} = str({a})", "writes it"),
    Step("i", "s", "{r} = '{c}' * {a}", "repeats {c}"),
    # lists of numbers
    Step("l", "i", "{r} = len({a})", "counts them"),
    Step("l", "i", "{r} = sum({a})", "sums them"),
    Step("l", "i", "{r} = max({a})", "takes the largest"),
    Step("l", "i", "{r} = {a}[0]", "takes the first"),
    Step("l", "i", "{r} = {a}[-1]", "takes the last"),
    Step("l", "i", "{r} = 0\nfor x in {a}:\n    if {C}:\n        {r} += 1", "counts where {C}"),
    Step("l", "i", "{r} = 0\nfor x in {a}:\n    if {C}:\n        {r} += x", "sums where {C}"),
    Step("l", "l", "{r} = sorted({a})", "sorts"),
    Step("l", "l", "{r} = {a}[::-1]", "reverses"),
    Step("l", "l", "{r} = {a}[1:]", "drops the first"),
    Step("l", "l", "{r} = {a}[:{m}]", "takes the first {m}"),
    Step("l", "l", "{r} = {a} + [{k}]", "puts {k} behind"),
    Step("l", "l", "{a}.append({k})", "puts {k} behind"),
    Step("l", "l", "{r} = [{E} for x in {a}]", "makes {E} of each"),
    Step("l", "l", "{r} = [x for x in {a} if {C}]", "keeps where {C}"),
    Step("l", "l", "{r} = []\nfor x in {a}:\n    {r}.append({E})", "makes {E} of each"),
    Step("li", "l", "{r} = {a} + [{b}]", "puts a number behind"),
    # strings
    Step("s", "i", "{r} = len({a})", "counts the letters"),
    Step("s", "i", "{r} = {a}.count('{c}')", "counts {c}"),
    Step("s", "s", "{r} = {a}.upper()", "makes it upper"),
    Step("s", "s", "{r} = {a}[::-1]", "reverses"),
    Step("s", "s", "{r} = {a}[1:]", "drops the first"),
    Step("s", "s", "{r} = {a}[:{m}]", "takes the first {m}"),
    Step("s", "s", "{r} = {a} + {a}", "doubles"),
    Step("s", "s", "{r} = {a} + '{c}'", "puts {c} behind"),
    Step("s", "s", "{r} = '{c}' + {a}", "puts {c} in front"),
    Step("s", "s", "{r} = {a}.replace('{c}', '{e}')", "replaces {c} by {e}"),
    Step("s", "s", "{r} = ''\nfor ch in {a}:\n    {r} += {S}", "makes {S} of each"),
    Step("s", "s", "{r} = ''.join(ch for ch in {a} if {D})", "keeps where {D}"),
    Step("s", "s", "if '{c}' in {a}:\n    {a} += '{e}'", "puts {e} behind where there is {c}"),
    Step("si", "s", "{r} = {a} * {b}", "repeats"),
    Step("si", "s", "{r} = {a}[:{b}]", "takes so many"),
    Step("ss", "s", "{r} = {a} + {b}", "joins both"),
    Step("s", "w", "{r} = list({a})", "takes the letters"),
    Step("s", "d", "{r} = {{}}\nfor ch in {a}:\n    {r}[ch] = {r}.get(ch, 0) + 1", "counts each letter"),
    # lists of strings
    Step("w", "s", "{r} = '{c}'.join({a})", "joins with {c}"),
    Step("w", "s", "{r} = {a}[0]", "takes the first"),
    Step("w", "l", "{r} = [len(x) for x in {a}]", "takes the lengths"),
    Step("w", "w", "{r} = {a}[::-1]", "reverses"),
    Step("w", "w", "{r} = [x + '{c}' for x in {a}]", "puts {c} behind each"),
    # dicts
    Step("d", "i", "{r} = sum({a}.values())", "sums the values"),
    Step("d", "i", "{r} = {a}.get('{c}', {k})", "looks up {c}"),
    Step("d", "l", "{r} = list({a}.values())", "takes the values"),
    Step("d", "w", "{r} = list({a})", "takes the keys"),
    Step("d", "d", "{a}['{c}'] = {k}", "sets {c} to {k}"),
    Step("d", "d", "{r} = {{key: {E} for key, x in {a}.items()}}", "makes {E} of each value"),
    Step("d", "d", "for key in {a}:\n    {a}[key] += {k}", "adds {k} to each value"),
)

OF_NUMBER = ("x + {k}", "x - {k}", "x * {m}", "x * x")
NUMBER_IS = ("x > {k}", "x < {k}", "x % 2 == 0")
OF_CHARACTER = ("ch + ch", "ch + '{c}'", "ch.upper()")
CHARACTER_IS = ("ch != '{c}'", "ch > '{c}'")
