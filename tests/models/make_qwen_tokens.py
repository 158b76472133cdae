"""Makes golden/qwen05b_coder_token_ids.json: what transformers' own Qwen2Tokenizer makes of many texts. Run it once.

python tests/models/make_qwen_tokens.py <folder of Qwen2.5-Coder-0.5B-Instruct>

Only the vocabulary, the merges and the names of the added tokens are the folder's; how text is normalised and cut is
transformers' own. The texts are those of SmolLM2's golden file and some that Qwen's tokenizer treats differently. Chats
are rendered by hand, as the model's card shows them.
"""

import json
import sys
from pathlib import Path

from transformers import AddedToken, Qwen2Tokenizer

GOLDEN = Path(__file__).parent / "golden"
SYSTEM = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."
MORE = (
    "cafe\u0301 nai\u0308ve \u1112\u1161\u11ab A\u030a \ufb01 \u212b",  # decomposed, jamo, a ligature, Angstrom
    "I'Ll they'RE we'\u017f it's can't",
    "x\u00a0\u00a0y\u2003z\u200bw",
    "if x:\r\n\treturn\r\n\r\n",
    "    \n    \n  for i in range(1000000):\n        total_2024 += i ** 2  # sum\n",
    "3.14159 1234567890 0x1F 1e-5 ١٢٣ ½ Ⅷ",
    "\U0001f469\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466 \U0001f1e9\U0001f1ea \U0001f44d\U0001f3fd",
    "<|fim_prefix|>def f(<|fim_suffix|>):\n<|fim_middle|>x<|endoftext|>",
    '<tool_call>\n{"name": "f"}\n</tool_call> <tool_call ',
    "[PAD151665] <|repo_name|>a/b<|file_sep|>c.py",
    "  <|im_end|>  <|im_start|>assistant\n",
    "请用Python写一个函数，返回列表中的最大值。",  # noqa: RUF001
    "今日は、世界！ Привет, мир! שלום",  # noqa: RUF001
    "a\u0327\u0301b \u0344 \u0958",  # marks that NFC orders, splits, or composes
)


def main(folder: str) -> None:
    content = json.loads((Path(folder) / "tokenizer.json").read_text())
    added = content["added_tokens"]
    names = {token["content"] for token in added}
    vocab = {token: number for token, number in content["model"]["vocab"].items() if token not in names}
    merges = [tuple(merge) for merge in content["model"]["merges"]]
    tokenizer = Qwen2Tokenizer(vocab=vocab, merges=merges)
    for token in sorted(added, key=lambda token: token["id"]):
        tokenizer.add_tokens([AddedToken(token["content"], normalized=False, special=token["special"])])
    assert tokenizer.convert_tokens_to_ids("<|im_end|>") == 151645
    old = json.loads((GOLDEN / "smollm2_token_ids.json").read_text())
    texts = [text for text, _ in old["texts"]] + list(MORE)
    chats = [{**chat, "text": rendered(chat["messages"], chat["add_generation_prompt"])} for chat in old["chats"]]
    lines = [json.dumps([text, tokenizer.encode(text)], ensure_ascii=False, separators=(",", ":")) for text in texts]
    told = [json.dumps({**chat, "ids": tokenizer.encode(chat["text"])}, ensure_ascii=False) for chat in chats]
    written = '{\n "texts": [\n  ' + ",\n  ".join(lines) + '\n ],\n "chats": [\n  ' + ",\n  ".join(told) + "\n ]\n}\n"
    (GOLDEN / "qwen05b_coder_token_ids.json").write_text(written, encoding="utf-8")


def rendered(messages: list[dict[str, str]], add_generation_prompt: bool) -> str:
    if messages[0]["role"] != "system":
        messages = [{"role": "system", "content": SYSTEM}, *messages]
    turns = [f"<|im_start|>{message['role']}\n{message['content']}<|im_end|>\n" for message in messages]
    return "".join(turns) + ("<|im_start|>assistant\n" if add_generation_prompt else "")


if __name__ == "__main__":
    main(sys.argv[1])
