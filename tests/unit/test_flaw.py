"""What is too long to be a line is found without a look at each line."""

from hypothesis import given
from hypothesis import strategies as st

from schemas import flaw
from schemas.event import MAX_LINE

#: About what is allowed, and others, so that ends of lines fall on either side of a stretch.
LENGTHS = st.integers(0, 40) | st.integers(MAX_LINE - 3, MAX_LINE + 3) | st.integers(0, MAX_LINE)


@given(st.lists(LENGTHS, max_size=8), st.booleans())
def test_a_line_of_its_most_bytes_is_seen_wherever_it_stands(
    lengths: list[int], ended: bool
) -> None:
    data = b"\n".join(b"x" * length for length in lengths) + b"\n" * ended
    longest = max(map(len, data.split(b"\n")))
    assert flaw.is_bounded_text(data) is (longest < MAX_LINE)
