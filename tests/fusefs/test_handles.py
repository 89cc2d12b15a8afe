"""Numbers for open files."""

import pytest

from fusefs.handles import Handles


def test_numbers_lead_to_what_was_added() -> None:
    handles: Handles[str] = Handles()
    first, second = handles.add("a"), handles.add("b")
    assert (handles[first], handles[second]) == ("a", "b")
    assert len(handles) == 2


def test_a_number_is_not_used_again_after_it_was_given_back() -> None:
    handles: Handles[str] = Handles()
    number = handles.add("a")
    assert handles.pop(number) == "a"
    assert handles.add("b") != number
    with pytest.raises(KeyError):
        handles.pop(number)
