"""What the compiler says when a program does not fit, in the words of several versions."""

import pytest

from azr_jax.dryrun.measure import does_not_fit


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
