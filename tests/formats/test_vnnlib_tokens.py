from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from harness.formats.vnnlib_tokens import END, TokenStream


def test_comments_and_blanks_separate() -> None:
    stream = TokenStream("(a;b (c\n)d ;e", "s")
    assert stream.tokens[:5] == ["(", "a", ")", "d", END]
    assert [stream.position(i) for i in range(5)] == [(1, 1), (1, 2), (2, 1), (2, 2), (2, 6)]


@given(st.text(max_size=60) | st.text(alphabet="();a \n\r\t\x1c\u2003", max_size=60))
def test_every_token_stands_where_its_position_says(text: str) -> None:
    stream = TokenStream(text, "s")
    lines = text.split("\n")
    for index, token in enumerate(stream.tokens):
        if token != END:
            line, column = stream.position(index)
            assert lines[line - 1][column - 1 :].startswith(token)
