"""A growing file in a bucket: which objects make it up, whoever wrote what when."""

import pytest

from azr_jax.storage.bucket import Object
from azr_jax.storage.spans import Span, SpanFile, Torn, chain, files_in, parse, read
from tests.storage.conftest import bucket_at
from tests.storage.proxy import Fault, Proxy


def test_names_sort_as_bytes_do_and_say_what_they_hold():
    spans = [Span("buffers/error.jsonl", 0, 9, 1), Span("buffers/error.jsonl", 9, 1_000_000_000, 1)]
    assert spans[0].name == "buffers/error.jsonl/000000000000000-000000000000009.000001"
    assert sorted(span.name for span in spans) == [span.name for span in spans]
    assert [parse(span.name) for span in spans] == spans
    events = Span("tensorboard/events.out.tfevents.1.host", 0, 9, 1)
    assert "tfevents" in events.name.rpartition("/")[2], "TensorBoard opens no file without it"
    assert parse(events.name) == events
    assert parse("config.json") is None


def span(start: int, end: int, term: int = 1) -> Span:
    return Span("metrics.jsonl", start, end, term)


def test_what_a_former_owner_still_writes_is_passed_over():
    first = [span(0, 10), span(10, 20)]
    late = span(20, 33, term=1)
    assert chain([*first, late, span(20, 25, term=2), span(25, 50, term=2)]) == [
        *first, span(20, 25, term=2), span(25, 50, term=2)
    ]  # fmt: skip
    # And behind the new owner's last byte, where it would fit.
    assert chain([*first, span(20, 25, term=2), span(25, 30, term=1)]) == [*first, span(20, 25, term=2)]


def test_a_cut_that_was_killed_half_way_leaves_the_shorter_file():
    assert chain([span(0, 10), span(10, 20), span(10, 14)]) == [span(0, 10), span(10, 14)]
    assert chain([span(0, 10), span(10, 20, term=1), span(10, 14, term=2)]) == [span(0, 10), span(10, 14, term=2)]


def test_a_hole_is_not_passed_over():
    with pytest.raises(Torn, match=r"metrics.jsonl: its bytes from 10 to 20 are missing"):
        chain([span(0, 10), span(20, 30)])
    with pytest.raises(Torn, match="is 9 bytes long"):
        files_in([Object(span(0, 10).name, 9, 1, 0.0)])


def test_a_file_grows_is_cut_back_and_grows_again(server: str):
    bucket = bucket_at(server)
    file = SpanFile(bucket, "metrics.jsonl", term=1)
    for data in (b"one\n", b"two\n", b"three\n"):
        file.append(data)

    def there() -> bytes:
        spans = files_in(bucket.list()[0])["metrics.jsonl"]
        assert spans == [span(s.start, s.end, s.term) for s in file.spans]
        return b"".join(read(bucket, spans))

    assert there() == b"one\ntwo\nthree\n"
    file.cut(6)
    assert there() == b"one\ntw"
    file.append(b"o again\n")
    assert there() == b"one\ntwo again\n"
    later = SpanFile(bucket, "metrics.jsonl", term=2, spans=file.spans)
    later.cut(4)
    later.append(b"of the second owner\n")
    file = later
    assert there() == b"one\nof the second owner\n"
    file.cut(0)
    assert not bucket.list()[0]


def test_an_object_that_was_replaced_by_hand_is_told(proxy: Proxy):
    bucket = bucket_at(proxy.url)
    file = SpanFile(bucket, "metrics.jsonl", term=1)
    file.append(b"one\n")
    bucket.write(file.spans[0].name, b"more than one\n")
    with pytest.raises(Torn, match="holds 14 bytes"):
        read(bucket, file.spans)
    proxy.spoil(Fault("cut"), method="GET")
    with pytest.raises(Torn, match="is 14 bytes long"):
        files_in(bucket.list()[0])
