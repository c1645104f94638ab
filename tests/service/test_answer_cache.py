"""AnswerCache that are kept: the ones used last, within their room."""

from __future__ import annotations

import threading

import pytest

from api.answer_cache import AnswerCache


def test_the_ones_used_last_stay() -> None:
    answers = AnswerCache(room=100)
    for tag in "abcde":
        answers.put(tag, tag.encode() * 20)
    assert answers.get("a") == b"a" * 20
    answers.put("f", b"f" * 20)
    assert answers.get("b") is None
    assert [tag for tag in "acdef" if answers.get(tag) is None] == []


def test_room_is_counted_in_bytes_and_an_answer_again_takes_none() -> None:
    answers = AnswerCache(room=100)
    for _ in range(50):
        answers.put("a", b"a" * 20)
    answers.put("b", b"b" * 20)
    assert answers.get("a") == b"a" * 20
    answers.put("large", b"x" * 26)
    assert answers.get("large") is None, "one answer is not to push out all others"
    for i in range(100):
        answers.put(str(i), b"y")
    assert answers.get("0") is not None
    assert answers.get("b") is None


@pytest.mark.timing
def test_threads_share_it() -> None:
    answers, wrong = AnswerCache(room=400), []

    def use(seed: int) -> None:
        for i in range(2000):
            tag = str((i * seed) % 40)
            answers.put(tag, tag.encode() * 30)
            found = answers.get(str((i + seed) % 40))
            if found not in (None, str((i + seed) % 40).encode() * 30):
                wrong.append(found)

    threads = [threading.Thread(target=use, args=(seed,)) for seed in (1, 3, 7, 11)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
