"""Buffers: what is kept, what is drawn, and that the state on disk is the state in memory."""

import json
import random
import shutil
import warnings
from collections import Counter
from dataclasses import astuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from azr_jax.executor.values import encode
from azr_jax.tasks.buffers import RECENT, Buffers, BufferSettings, DamagedJournal, Entry, Unkept
from azr_jax.tasks.types import InductionTask, Kind, Triplet

D, A, I, E = Kind.DEDUCTION, Kind.ABDUCTION, Kind.INDUCTION, Kind.ERROR  # noqa: E741


def triplet(number: int, argument: str = "1") -> Triplet:
    return Triplet(f"def f(x):\n    return x + {number}", argument, str(number + 1), f"int:{number + 1}")


def induction(number: int) -> InductionTask:
    return InductionTask(triplet(number).program, ("1", "2"), ("3", "4"), ("int:3", "int:4"), "adds\nsome", 1)


def fill(buffers: Buffers, kind: Kind, numbers: range, iteration: int = 1, seed: bool = False) -> list[Entry]:
    entries = [buffers[kind].append(triplet(n), iteration=iteration, seed=seed) for n in numbers]
    return [entry for entry in entries if isinstance(entry, Entry)]


def state(buffers: Buffers) -> dict:
    return {kind: list(buffer) for kind, buffer in buffers.items()}


def frozen(buffers: Buffers) -> dict:
    """The state as it is now: entries themselves may still learn their solve rate."""
    return {kind: [astuple(entry) for entry in buffer] for kind, buffer in buffers.items()}


def drawn(buffer) -> tuple[list[int], ...]:
    """The order matters here: by it draws are made."""
    rng = random.Random(3)
    of_each = ("frontier", "mistakes", "uniform")
    return tuple([entry.id for entry in buffer.sample_solve(4, [], rng, how)] for how in of_each)


def ids(entries) -> list[int]:
    """Ids without the kind's part in them: 0, 1, 2, ... in the order in which its entries were kept."""
    return [entry.id // len(Kind) for entry in entries]


def nth(number: int) -> int:
    """The id of this entry of the first kind, deduction."""
    return number * len(Kind)


# --- keeping and evicting ---


def test_seeds_of_one_skeleton_are_kept_and_what_is_played_is_a_copy_of_them():
    """Seeding pays nobody; with the rule for what is played a small model would not fill its buffer."""
    buffer = Buffers([Kind.DEDUCTION], BufferSettings(copies="skeletons"))[Kind.DEDUCTION]
    tasks = [Triplet(f"def f(x):\n    return x + {n}", str(n), str(2 * n), encode(2 * n)) for n in range(4)]
    kept = [buffer.append(task, iteration=0, seed=True) for task in (*tasks[:3], tasks[1])]
    assert [isinstance(one, Entry) for one in kept] == [True, True, True, False]
    assert buffer.append(tasks[3], iteration=1) == Unkept.DUPLICATE and buffer.holds(tasks[3])


def test_a_task_that_differs_only_in_form_is_kept_once():
    buffer = Buffers([D])[D]
    assert buffer.append(Triplet("def f(x):\n    return {'a': x}", "'b', (1,2)", "", ""), iteration=1)
    same = 'def f(x):\n    """Wraps."""\n    # a comment\n    return {"a":x}'
    assert buffer.append(Triplet(same, '"b",(1, 2)', "", ""), iteration=2) is Unkept.DUPLICATE
    another_input = buffer.append(Triplet(same, '"b",(1, 3)', "", ""), iteration=2)
    another_program = buffer.append(Triplet(same.replace("return", "return 1,"), "'b', (1, 2)", "", ""), iteration=2)
    assert isinstance(another_input, Entry) and isinstance(another_program, Entry) and len(buffer) == 3


def test_the_order_of_induction_inputs_makes_no_new_task():
    buffer = Buffers([I])[I]
    task = induction(1)
    assert buffer.append(task, iteration=1)
    turned = InductionTask(task.program, ("2", "1"), ("4", "3"), task.values[::-1], "other words", 1)
    assert buffer.append(turned, iteration=1) is Unkept.DUPLICATE


def test_ids_are_unique_over_all_kinds_and_do_not_depend_on_which_kind_is_first():
    def kept(*kinds) -> dict[Kind, list[int]]:
        buffers = Buffers([D, A])
        return {kind: [entry.id for entry in fill(buffers, kind, range(3))] for kind in kinds}

    assert kept(D, A) == kept(A, D)
    assert not set(kept(D, A)[D]) & set(kept(D, A)[A])


def test_a_full_buffer_loses_the_oldest_but_never_a_seed():
    buffers = Buffers([D], BufferSettings(capacity=4))
    fill(buffers, D, range(2), seed=True)
    fill(buffers, D, range(2, 7))
    assert sorted(ids(buffers[D])) == [0, 1, 5, 6]


def test_a_buffer_full_of_seeds_refuses():
    buffers = Buffers([D], BufferSettings(capacity=2))
    fill(buffers, D, range(2), seed=True)
    assert buffers[D].append(triplet(2), iteration=1) is Unkept.FULL
    assert buffers[D].append(triplet(1), iteration=1) is Unkept.DUPLICATE, "of a full buffer too"
    assert sorted(ids(buffers[D])) == [0, 1]


def test_keep_oldest_refuses_what_is_new_as_the_public_code_does():
    buffers = Buffers([D], BufferSettings(capacity=3, evict="keep_oldest"))
    assert ids(fill(buffers, D, range(5))) == [0, 1, 2]
    assert ids(buffers[D]) == [0, 1, 2]


def test_what_was_evicted_may_come_again():
    buffers = Buffers([D], BufferSettings(capacity=1))
    fill(buffers, D, range(2))
    assert ids(fill(buffers, D, range(1))) == [2]


def test_a_solve_rate_stays_with_its_entry_and_outlives_nobody():
    buffers = Buffers([D], BufferSettings(capacity=2))
    fill(buffers, D, range(2))
    buffers[D].set_solve_rate(nth(1), 0.25)
    fill(buffers, D, range(2, 3))  # evicts entry 0
    buffers[D].set_solve_rate(nth(0), 0.5)
    assert {entry.id: entry.solve_rate for entry in buffers[D]} == {nth(1): 0.25, nth(2): None}
    with pytest.raises(ValueError, match=r"solve_rate=1\.5 of entry 4"):
        buffers[D].set_solve_rate(nth(1), 1.5)


def test_mean_age_counts_iterations_of_what_is_kept():
    buffers = Buffers([D], BufferSettings(capacity=2))
    assert buffers[D].mean_age(5) == 0.0
    buffers[D].append(triplet(0), iteration=1)
    buffers[D].append(triplet(1), iteration=4)
    assert buffers[D].mean_age(5) == (4 + 1) / 2
    buffers[D].append(triplet(2), iteration=5)  # the first goes
    assert buffers[D].mean_age(5) == (1 + 0) / 2


@pytest.mark.parametrize("wrong", [{"capacity": 0}, {"evict": "newest"}])
def test_wrong_settings_are_named(wrong):
    with pytest.raises(ValueError, match=f"buffer.{next(iter(wrong))}="):
        BufferSettings(**wrong)


# --- drawing ---


def test_the_same_random_state_draws_the_same():
    buffers = Buffers([D])
    fill(buffers, D, range(50))
    for how in ("uniform", "recent", "learnability"):
        draws = [ids(buffers[D].sample_references(6, random.Random("a"), how)) for _ in range(2)]
        assert draws[0] == draws[1] and len(set(draws[0])) == 6
        assert ids(buffers[D].sample_references(6, random.Random("b"), how)) != draws[0]


@pytest.mark.parametrize("how", ["uniform", "recent", "learnability"])
def test_there_may_be_fewer_references_than_asked_for(how):
    buffers = Buffers([D])
    assert buffers[D].sample_references(6, random.Random(0), how) == []
    fill(buffers, D, range(3))
    assert sorted(ids(buffers[D].sample_references(6, random.Random(0), how))) == [0, 1, 2]
    assert buffers[D].sample_references(0, random.Random(0), how) == []


def test_uniform_references_reach_everything_equally():
    buffers = Buffers([D])
    fill(buffers, D, range(10))
    rng = random.Random(0)
    counts = Counter(i for _ in range(5000) for i in ids(buffers[D].sample_references(2, rng)))
    # Each is drawn 1000 times on average, with a deviation of about 28.
    assert all(abs(counts[i] - 1000) < 150 for i in range(10))


def test_recent_references_are_the_newest():
    buffers = Buffers([D])
    fill(buffers, D, range(400))
    drawn = {i for n in range(200) for i in ids(buffers[D].sample_references(6, random.Random(n), "recent"))}
    assert min(drawn) >= 400 - 256 and max(drawn) > 390


def test_learnability_prefers_solve_rates_near_one_half():
    buffers = Buffers([D])
    fill(buffers, D, range(3))
    for entry_id, rate in enumerate((0.0, 0.5, 1.0)):
        buffers[D].set_solve_rate(nth(entry_id), rate)
    rng = random.Random(0)
    counts = Counter(ids(buffers[D].sample_references(1, rng, "learnability"))[0] for _ in range(2000))
    # Weights 0.05 : 1 : 0.05, so 1818 of 2000 on average.
    assert abs(counts[1] - 1818) < 60 and counts[0] > 0 and counts[2] > 0


def test_what_would_be_kept_is_told_without_keeping_it():
    """Of a copy of what is kept and of copies among themselves: the first one that is new, by the ids given."""
    buffers = Buffers([D])
    fill(buffers, D, range(2))
    before = frozen(buffers)
    given = {90: triplet(5), 70: triplet(1), 80: triplet(5), 60: None, 95: triplet(6)}
    entries = buffers[D].would_keep(given, iteration=3)
    assert [(entry.id, entry.task, entry.iteration) for entry in entries] == [(80, triplet(5), 3), (95, triplet(6), 3)]
    assert frozen(buffers) == before and not buffers[D].holds(triplet(5))


def test_what_would_be_kept_is_no_more_than_a_full_buffer_takes():
    for evict, taken in (("keep_oldest", [70, 80]), ("oldest_first", [70, 80, 90])):
        buffers = Buffers([D], settings=BufferSettings(capacity=4, evict=evict))
        fill(buffers, D, range(2))
        given = {70: triplet(5), 80: triplet(6), 90: triplet(7)}
        assert [entry.id for entry in buffers[D].would_keep(given, iteration=3)] == taken
        kept = [buffers[D].append(task, iteration=3) for task in given.values()]
        assert sum(isinstance(one, Entry) for one in kept) == len(taken)
        if evict == "keep_oldest":
            assert buffers[D].would_keep({60: triplet(8)}, iteration=4) == []


def test_max_new_takes_this_iterations_tasks_first():
    buffers = Buffers([D])
    fill(buffers, D, range(20))
    new = fill(buffers, D, range(20, 25), iteration=2)
    batch = buffers[D].sample_solve(8, new, random.Random(0), "max_new")
    assert set(ids(new)) < set(ids(batch)) and len(set(ids(batch))) == 8
    assert ids(buffers[D].sample_solve(5, new, random.Random(0), "max_new")) == ids(new)
    assert set(ids(buffers[D].sample_solve(3, new, random.Random(0), "max_new"))) < set(ids(new))


def test_half_new_leaves_half_to_the_buffer():
    buffers = Buffers([D])
    fill(buffers, D, range(500))
    new = fill(buffers, D, range(500, 510), iteration=2)
    batch = buffers[D].sample_solve(8, new, random.Random(1), "half_new")
    assert len(set(ids(batch))) == 8
    assert sum(entry.iteration == 2 for entry in batch[:4]) == 4


def test_uniform_ignores_what_is_new():
    buffers = Buffers([D])
    fill(buffers, D, range(1000))
    new = fill(buffers, D, range(1000, 1004), iteration=2)
    counts = Counter(
        e.iteration for n in range(50) for e in buffers[D].sample_solve(8, new, random.Random(n), "uniform")
    )
    assert counts[1] > 380  # 4 of 1004 are new: 1.6 of the 400 draws on average


def test_a_small_buffer_fills_the_batch_with_repeats_and_an_empty_one_gives_nothing():
    buffers = Buffers([D])
    assert buffers[D].sample_solve(4, [], random.Random(0)) == []
    fill(buffers, D, range(3))
    batch = buffers[D].sample_solve(7, [], random.Random(0))
    assert len(batch) == 7 and set(ids(batch)) == {0, 1, 2} and len(set(ids(batch[:3]))) == 3


@pytest.mark.parametrize(("ask", "field"), [("references", "reference_sampling"), ("solve", "solve_sampling")])
def test_an_unknown_way_to_draw_is_named(ask, field):
    buffer = Buffers([D])[D]
    with pytest.raises(ValueError, match=f"buffer.{field}='best'"):
        if ask == "solve":
            buffer.sample_solve(1, [], random.Random(0), "best")
        buffer.sample_references(1, random.Random(0), "best")


def test_induction_takes_programs_from_all_triplets_by_their_number():
    buffers = Buffers([D, A, I])
    with pytest.raises(ValueError, match="seed deduction or abduction first"):
        buffers.sample_program(random.Random(0))
    buffers[I].append(induction(0), iteration=0)
    assert buffers.sample_program(random.Random(0)).kind == I, "imported induction tasks serve where nothing else does"
    fill(buffers, D, range(30))
    fill(buffers, A, range(10))
    rng = random.Random(0)
    counts = Counter(buffers.sample_program(rng).kind for _ in range(4000))
    assert counts[I] == 0 and abs(counts[D] - 3000) < 150  # 3 : 1, deviation about 27


def test_the_frontier_and_the_mistakes_are_the_newest_and_leave_with_who_is_evicted():
    buffers = Buffers([D], BufferSettings(capacity=RECENT + 3))
    entries = fill(buffers, D, range(RECENT + 3))
    for entry in entries:
        buffers[D].set_solve_rate(entry.id, 0.5)
        buffers[D].note_attempt(entry.id, False)
    rng = random.Random(0)
    for how, many in (("frontier", RECENT), ("mistakes", 2 * RECENT)):
        asked = buffers[D].sample_solve(many, [], rng, how)[:RECENT]
        assert sorted(ids(asked)) == list(range(3, RECENT + 3)), "the first three are too old"
    buffers[D].set_solve_rate(entries[9].id, 0.9)
    buffers[D].note_attempt(entries[10].id, True)
    new, still = fill(buffers, D, range(1000, 1006)), set(range(6, RECENT + 3))
    frontier = buffers[D].sample_solve(RECENT - 4, new, rng, "frontier")
    assert set(ids(frontier)) == still - {9}, "measured anew; the first six are gone"
    mistakes = buffers[D].sample_solve(2 * (RECENT - 4), new, rng, "mistakes")[: RECENT - 4]
    assert set(ids(mistakes)) == still - {10}


def test_what_is_solved_and_stays_solved_is_not_written_down(tmp_path):
    buffers = Buffers([D], folder=tmp_path)
    (entry,) = fill(buffers, D, range(1))
    for correct in (True, True, False, True, True):
        buffers[D].note_attempt(entry.id, correct)
    buffers[D].note_attempt(nth(77), False)  # evicted meanwhile
    buffers.close()
    records = [json.loads(line)["record"] for line in (tmp_path / "deduction.jsonl").open()]
    assert records[1:] == [{"solved": False, "id": entry.id}, {"solved": True, "id": entry.id}]


# --- on disk ---


def played(folder, kinds=(D, A, I), capacity=6) -> Buffers:
    """Two iterations' worth of appends, evictions and solve rates."""
    buffers = Buffers(kinds, BufferSettings(capacity=capacity), folder)
    fill(buffers, D, range(3), iteration=0, seed=True)
    fill(buffers, D, range(3, 9))
    fill(buffers, A, range(2))
    buffers[D].set_solve_rate(nth(8), 0.5)
    buffers[D].set_solve_rate(nth(7), 0.125)
    buffers[I].append(induction(1), iteration=1, references=[4, 5])
    return buffers


def test_what_comes_back_is_what_was_there_and_goes_on_like_it(tmp_path):
    buffers = played(tmp_path / "run")
    cursor = json.loads(json.dumps(buffers.cursor()))  # as a checkpoint keeps it
    shutil.copytree(tmp_path / "run", tmp_path / "copy")
    again = Buffers([D, A, I], BufferSettings(capacity=6), tmp_path / "copy")
    again.load(cursor)
    assert state(again) == state(buffers)
    for each in (buffers, again):
        assert len(each[D].history) == 9, "the three evicted are part of the history"
        assert each[D].history.nearest(triplet(3)) == 0.0
        assert each[D].history.surprise(triplet(3)) == 1 - 1 / 9
    asked = [triplet(3), triplet(50), Triplet("def f(y):\n    return [y]", "1", "", "")]
    assert [again[D].history.mean_distance(task) for task in asked] == [
        buffers[D].history.mean_distance(task) for task in asked
    ]
    for each in (buffers, again):
        fill(each, D, range(100, 110), iteration=2)
    assert state(again) == state(buffers), "same ids, same evictions"
    assert again[D].sample_references(4, random.Random(1)) == buffers[D].sample_references(4, random.Random(1))
    assert again[D].mean_age(9) == buffers[D].mean_age(9)
    assert again.cursor() == buffers.cursor()


def test_loading_a_cursor_cuts_off_what_came_after_it(tmp_path):
    buffers = played(tmp_path)
    cursor, before = buffers.cursor(), frozen(buffers)
    sizes = {path: path.stat().st_size for path in tmp_path.iterdir()}
    fill(buffers, D, range(50, 60), iteration=2)
    buffers[D].set_solve_rate(nth(8), 1.0)
    buffers.close()
    again = Buffers([D, A, I], BufferSettings(capacity=6), tmp_path)
    again.load(cursor)
    assert frozen(again) == before
    assert {path: path.stat().st_size for path in tmp_path.iterdir()} == sizes
    assert again.cursor() == cursor
    # What is written after going back is what a run that was never killed would have written.
    assert ids(fill(again, D, range(50, 51), iteration=2)) == [9]


def test_a_torn_last_line_is_dropped_with_a_warning_and_nothing_else_is_lost(tmp_path):
    buffers = played(tmp_path)
    buffers.close()
    file = tmp_path / "deduction.jsonl"
    whole = file.read_bytes()
    last = whole.rstrip(b"\n").rfind(b"\n") + 1
    for torn in (last + 1, (last + len(whole)) // 2, len(whole) - 1):
        file.write_bytes(whole[:torn])
        again = Buffers([D, A, I], BufferSettings(capacity=6), tmp_path)
        with pytest.warns(UserWarning, match=r"deduction\.jsonl: line 11 was torn off"):
            again.load()
        assert file.read_bytes() == whole[:last]
        assert {e.id: e.solve_rate for e in again[D]}[nth(7)] is None, "the last line was the solve rate of entry 7"
        assert {e.id: e.solve_rate for e in again[D]}[nth(8)] == 0.5
        again[D].set_solve_rate(nth(7), 0.125)
        again.close()
        assert file.read_bytes() == whole, "appending goes on where the torn line began"


def test_a_damaged_line_is_named(tmp_path):
    played(tmp_path).close()
    file = tmp_path / "deduction.jsonl"
    lines = file.read_bytes().splitlines(keepends=True)
    edits = {
        "changed": [*lines[:3], lines[3].replace(b"return x", b"return y"), *lines[4:]],
        "lost": [*lines[:3], *lines[4:]],
        "twice": [*lines[:4], *lines[3:]],
        "swapped": [*lines[:3], lines[4], lines[3], *lines[5:]],
        "not ours": [*lines[:3], b"hello\n", *lines[3:]],
    }
    for edited in edits.values():
        file.write_bytes(b"".join(edited))
        number = 5 if edited is edits["twice"] else 4
        with pytest.raises(DamagedJournal, match=rf"deduction\.jsonl: line {number} is damaged"):
            Buffers([D, A, I], BufferSettings(capacity=6), tmp_path).load()


def test_a_file_shorter_than_the_checkpoint_is_refused(tmp_path):
    buffers = played(tmp_path)
    cursor = buffers.cursor()
    buffers.close()
    file = tmp_path / "deduction.jsonl"
    file.write_bytes(b"".join(file.read_bytes().splitlines(keepends=True)[:-1]))
    with pytest.raises(DamagedJournal, match="this is not the file it was made with"):
        Buffers([D, A, I], BufferSettings(capacity=6), tmp_path).load(cursor)
    file.unlink()
    with pytest.raises(DamagedJournal, match="ends at byte 0"):
        Buffers([D, A, I], BufferSettings(capacity=6), tmp_path).load(cursor)


def test_a_new_run_does_not_write_into_the_files_of_an_old_one(tmp_path):
    played(tmp_path).close()
    with pytest.raises(DamagedJournal, match="read it first"):
        fill(Buffers([D], folder=tmp_path), D, range(1))


def test_every_line_is_json_with_the_task_readable_in_it(tmp_path):
    played(tmp_path).close()
    records = [json.loads(line)["record"] for line in (tmp_path / "induction.jsonl").open()]
    assert records[0]["entry"]["task"]["message"] == "adds\nsome"
    assert records[0]["entry"]["references"] == [4, 5]


def test_a_kind_switched_on_later_starts_empty(tmp_path):
    buffers = Buffers([D], folder=tmp_path)
    fill(buffers, D, range(2))
    cursor = buffers.cursor()
    buffers.close()
    more = Buffers([D, E], folder=tmp_path)
    more.load(cursor)
    assert len(more[D]) == 2 and len(more[E]) == 0


WORDS = st.text(max_size=8) | st.sampled_from(["\u2028", "\x00", "\ud800", '"}\n{"', "\r\n"])
STEP = st.one_of(
    st.tuples(st.just("append"), st.sampled_from([D, A]), WORDS, WORDS, st.booleans()),
    st.tuples(st.just("rate"), st.sampled_from([D, A]), st.integers(0, 30), st.floats(0, 1)),
    st.tuples(st.just("tried"), st.sampled_from([D, A]), st.integers(0, 30), st.booleans()),
)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(STEP, max_size=30), st.integers(0, 30), st.integers(1, 6), st.sampled_from(["oldest_first", "keep_oldest"])
)
def test_save_and_load_is_the_identity_at_any_moment(tmp_path_factory, steps, checkpoint_at, capacity, evict):
    folder = tmp_path_factory.mktemp("buffers")
    settings_ = BufferSettings(capacity=capacity, evict=evict)
    buffers = Buffers([D, A], settings_, folder)
    cursor, expected, draws = buffers.cursor(), {D: [], A: []}, []
    for number, step in enumerate(steps):
        if step[0] == "append":
            _, kind, program, argument, seed = step
            buffers[kind].append(Triplet(program, argument, "o", "v"), iteration=number, references=(1, 2), seed=seed)
        elif step[0] == "rate":
            buffers[step[1]].set_solve_rate(step[2], step[3])
        else:
            buffers[step[1]].note_attempt(step[2], step[3])
        if number == checkpoint_at:
            cursor = json.loads(json.dumps(buffers.cursor()))
            expected, draws = frozen(buffers), [drawn(buffers[kind]) for kind in (D, A)]
    buffers.close()
    again = Buffers([D, A], settings_, folder)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again.load(cursor)
    assert frozen(again) == expected
    assert not draws or [drawn(again[kind]) for kind in (D, A)] == draws
