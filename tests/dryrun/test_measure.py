"""What the compiler says when a program does not fit, in the words of several versions."""

from types import SimpleNamespace

import pytest

from azr_jax.dryrun.measure import does_not_fit, held


@pytest.mark.parametrize(
    ("message", "wanted"),
    [
        ("Ran out of memory in memory space hbm. Used 20.91G of 15.75G hbm. Exceeded hbm capacity by 5.16G.", 20.91),
        ("XLA:TPU compile permanent error.\nUsed 512.00M of 15.75G hbm.\nTotal hbm usage", 0.5),
        (
            "RESOURCE_EXHAUSTED: E1000: CompileTimeHbmOom: Ran out of memory on HBM, the total memory required for HLO "
            "temporaries (17.62G) exceeds available HBM (15.75G). HLO module: jit_step.\nSee https://openxla.org",
            17.62,
        ),
    ],
)
def test_a_program_that_does_not_fit_says_how_much_it_wants(message, wanted):
    error = does_not_fit(message)
    assert error is not None and error.wanted_gib == wanted
    assert "\n" not in str(error)


def test_any_other_error_is_not_taken_for_that():
    assert does_not_fit("INTERNAL: Mosaic failed to compile TPU kernel") is None


# The train step of qwen7b on v5e:4x4 as two compilers account for it, in GiB; both compile it for chips of 15.75.
PARTS = {"argument_size_in_bytes": 5.327, "output_size_in_bytes": 5.323, "alias_size_in_bytes": 5.323}


@pytest.mark.parametrize(("temporaries", "peak"), [(14.706, 14.179), (8.850, 14.171)])
def test_what_a_program_holds_is_the_compilers_peak_whatever_it_says_of_temporaries(temporaries, peak):
    """Libtpu 0.0.50.1 says 14.71 GiB of temporaries for what takes 8.85: taken at its word the recipe did not fit."""
    memory = SimpleNamespace(**PARTS, temp_size_in_bytes=temporaries, peak_memory_in_bytes=peak)
    memory = SimpleNamespace(**{name: int(gib * 2**30) for name, gib in vars(memory).items()})
    assert held(memory) / 2**30 == pytest.approx(peak)


def test_a_compiler_that_names_no_peak_is_taken_by_the_sum_of_its_parts():
    """Jaxlib may leave the peak at 0."""
    memory = SimpleNamespace(
        argument_size_in_bytes=10, output_size_in_bytes=4, alias_size_in_bytes=3, temp_size_in_bytes=5,
        peak_memory_in_bytes=0,
    )  # fmt: skip
    assert held(memory) == 16
