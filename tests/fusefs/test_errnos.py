"""The errno table holds every error of the store."""

import errno

import pytest

from fusefs.errnos import ERRNOS, errno_of
from store import errors


def test_table_is_total_over_the_leaves() -> None:
    assert set(ERRNOS) == set(errors.leaves())


@pytest.mark.parametrize("kind", sorted(errors.leaves(), key=lambda kind: kind.__name__))
def test_every_errno_has_a_name(kind: type[errors.StoreError]) -> None:
    assert errno_of(kind("subject")) in errno.errorcode


def test_an_error_of_no_known_kind_is_an_io_error() -> None:
    assert errno_of(errors.StoreError()) == errno.EIO


def test_a_missing_name_and_a_missing_inode_differ() -> None:
    assert errno_of(errors.NoSuchEntry(b"name")) == errno.ENOENT
    assert errno_of(errors.NoSuchEntry(77)) == errno.ESTALE
