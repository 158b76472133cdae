"""Where every benchmark comes from: address, revision, checksum and row count, and the name its file has in a folder.

Checksums are of the uncompressed bytes, so `x.jsonl` and `x.jsonl.gz` are the same file. Where a checksum is empty the
file has not been at hand while this was written: its rows are counted, its bytes are not compared. Left out: the
few-shot splits of any of them.
"""

from __future__ import annotations

from dataclasses import dataclass

_AZR = (
    "https://raw.githubusercontent.com/LeapLabTHU/Absolute-Zero-Reasoner/a82124e514e2/evaluation/math_eval/eval/data/"
)
_EVALPLUS = "https://github.com/evalplus/"
_LCB = "https://huggingface.co/datasets/livecodebench/"


@dataclass(frozen=True)
class File:
    local: str  # its name under --data_dir, there with or without .gz
    url: str
    revision: str
    rows: int
    sha256: str = ""
    direct: bool = True  # False: the address is a page or another format, so the file has to be laid down by hand


@dataclass(frozen=True)
class Dataset:
    name: str
    key: str  # the field that names a row; "" for its number
    choices: tuple[tuple[File, ...], ...]  # sets of files that will do, the one to fetch first


def _one(name: str, key: str, *files: File) -> Dataset:
    return Dataset(name, key, (files,))


_LCB_ROWS = (400, 111, 101, 101, 167, 175)  # new problems of release 1 to 6
_LCB_FILES = tuple(
    File(
        f"livecodebench/test{number if number > 1 else ''}.jsonl",
        f"{_LCB}code_generation_lite/resolve/main/test{number if number > 1 else ''}.jsonl",
        f"release_v{number}",
        rows,
    )
    for number, rows in enumerate(_LCB_ROWS, 1)
)

_ALL = (
    Dataset(
        "cruxeval",
        "id",
        (
            (
                File(
                    "cruxeval.jsonl",
                    "https://raw.githubusercontent.com/facebookresearch/cruxeval/190faf16d175/data/cruxeval.jsonl",
                    "190faf16d175",
                    800,
                ),
            ),
            (
                File(
                    "cruxeval_public.jsonl",
                    "https://github.com/facebookresearch/cruxeval",
                    "190faf16d175, 400 rows chosen by hash",
                    400,
                    "a54b49c2627f4470322ee00586b98c4d2c267813135c67b3cb36428d3ae89f8c",
                    direct=False,
                ),
            ),
        ),
    ),
    _one(
        "humaneval",
        "task_id",
        File(
            "code/humaneval.jsonl",
            "https://raw.githubusercontent.com/openai/human-eval/6d43fb980f9f/data/HumanEval.jsonl.gz",
            "6d43fb980f9f",
            164,
            "1d49078ba3e2b196b9344535bef34a43021f038fad9561d6ee7c53450609a6a2",
        ),
    ),
    _one(
        "humaneval_plus",
        "task_id",
        File(
            "code/humaneval_plus.jsonl",
            f"{_EVALPLUS}humanevalplus_release/releases/download/v0.1.10/HumanEvalPlus.jsonl.gz",
            "v0.1.10",
            164,
            "42526ec0e7d5f3ee0b06d6ced98f8c8bae3d76519151bfb3d36f79010645bd7f",
        ),
    ),
    _one(
        "mbpp",
        "task_id",
        File(
            "code/mbpp.jsonl",
            "https://raw.githubusercontent.com/google-research/google-research/master/mbpp/mbpp.jsonl",
            "master",
            974,
            "ccf64ceae9c5403bf50a044cb6d505bfd2a2963ee58338ba268fd65beab92a9f",
        ),
    ),
    _one(
        "mbpp_plus",
        "task_id",
        File(
            "code/mbpp_plus.jsonl",
            f"{_EVALPLUS}mbppplus_release/releases/download/v0.2.0/MbppPlus.jsonl.gz",
            "v0.2.0",
            378,
            "b54e762755248ca411b523c917fa9f93c07b5ff2966bf60b3917b853926a3dad",
        ),
    ),
    *(
        _one(f"livecodebench_v{number}", "question_id", *_LCB_FILES[:number])
        for number in range(1, len(_LCB_FILES) + 1)
    ),
    _one(
        "livecodebench_execution",
        "id",
        File(
            "livecodebench/execution.jsonl",
            f"{_LCB}execution-v2/resolve/main/test.jsonl",
            "main",
            479,
        ),
    ),
    _one(
        "aime24",
        "id",
        File(
            "math/aime24.jsonl",
            f"{_AZR}aime24/test.jsonl",
            "a82124e514e2",
            30,
            "af2b8bd2aa911b6333ad0df32f3ca05c7ae8ed10f1731f4372c8ae26990bf7ac",
        ),
    ),
    _one(
        "aime25",
        "id",
        File(
            "math/aime25.jsonl",
            f"{_AZR}aime25/test.jsonl",
            "a82124e514e2",
            30,
            "5bd2607b52fa65bac4a73adf512e59953e5e1d1e85b6107fb362065e76d7cce3",
        ),
    ),
    _one(
        "amc23",
        "id",
        File(
            "math/amc23.jsonl",
            f"{_AZR}amc23/test.jsonl",
            "a82124e514e2",
            40,
            "43707e1ca784602d8479de24ee8ce36609dbebc46dd152b0b12a46611aa898a4",
        ),
    ),
    _one(
        "math500",
        "unique_id",
        File(
            "math/math500.jsonl",
            f"{_AZR}math500/test.jsonl",
            "a82124e514e2",
            500,
            "35dc41080a3680858b27fa7e0533d2d547825316fc5dafe5d316f4ccc5a06132",
        ),
    ),
    _one(
        "minerva",
        "idx",
        File(
            "math/minerva_math.jsonl",
            f"{_AZR}minerva_math/test.jsonl",
            "a82124e514e2",
            272,
            "0e656b430d3a0a1dab6aa853f453ba3805e28e2cabe4fc72486a897cc09d8ba2",
        ),
    ),
    _one(
        "olympiadbench",
        "id",
        File(
            "math/olympiadbench.jsonl",
            f"{_AZR}olympiadbench/test.jsonl",
            "a82124e514e2",
            675,
            "bb8c1e38a16ea9eacb77530315a674d883f267fbff79183effc53681b4fcc416",
        ),
    ),
    _one(
        "gsm8k",
        "",
        File(
            "math/gsm8k_test.jsonl",
            "https://raw.githubusercontent.com/openai/grade-school-math/3101c7d50724/grade_school_math/data/test.jsonl",
            "3101c7d50724",
            1319,
            "3730d312f6e3440559ace48831e51066acaca737f6eabec99bccb9e4b3c39d14",
        ),
    ),
    _one(
        "mmlu_pro",
        "question_id",
        File(
            "general/mmlu_pro_test.jsonl",
            "https://huggingface.co/datasets/TIGER-Lab/MMLU-Pro (test split, as JSON lines sorted by question_id)",
            "October 2024",
            12032,
            "ca0b73bbc1a43d8e557af7e8674cb53ba72e6d03d6864c6e607d5588f72583be",
            direct=False,
        ),
    ),
    _one(
        "supergpqa",
        "uuid",
        File(
            "general/SuperGPQA-all.jsonl",
            "https://huggingface.co/datasets/m-a-p/SuperGPQA/resolve/05eef0be7d48bb605979bc70f9b95b1a9d417073/SuperGPQA-all.jsonl",
            "05eef0be7d48",
            26529,
            "bbb7a0ba29a013301f913f02add57641de28bc6b0ceb64d0c6f8b5440910de9e",
        ),
    ),
    _one(  # not to be passed on: fetched by whoever evaluates, and nothing of it is kept here
        "aime26",
        "id",
        File(
            "math/aime26.jsonl",
            "https://huggingface.co/datasets/math-ai/aime26/resolve/79037aebdb6580008fb960d17cb21fd3099083e3/aime2026.jsonl",
            "79037aebdb65",
            30,
            "52822957957a3f577d1e9706c36a66a8108a3f99b6aff424cfb72dff0094a9ee",
        ),
    ),
    _one(
        "bbeh",
        "",
        File(
            "general/bbeh.jsonl",
            "https://huggingface.co/datasets/BBEH/bbeh (as JSON lines with task, input, target)",
            "main",
            4520,
            direct=False,
        ),
    ),
    _one(
        "livecodebench_output",
        "",
        File(
            "livecodebench/test_generation.jsonl",
            f"{_LCB}test_generation (as JSON lines)",
            "main",
            442,
            direct=False,
        ),
    ),
)
DATASETS: dict[str, Dataset] = {dataset.name: dataset for dataset in _ALL}
