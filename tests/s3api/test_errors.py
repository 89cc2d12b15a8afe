"""The table of failures is total, and everything that fails is told as S3 does."""

from __future__ import annotations

from s3api import errors, refusals, settingrefusals
from s3api.errors import STORE_FAILURES, Failure, Refusal, failure_of, failure_of_head
from s3api.httpstream import BodyMalformed, BodyStalled
from store.errors import InvalidArgument, KeyDeleted, VersionIsMarker, leaves

MODULES = {module.__name__ for module in (errors, refusals, settingrefusals)}


def all_leaves(root):
    below = root.__subclasses__()
    return {root} if not below else set().union(*map(all_leaves, below))


def made(leaf):
    """An error as the store raises it."""
    if leaf is KeyDeleted:
        return leaf("k", "version")
    return leaf("k", "version", 0) if leaf is VersionIsMarker else leaf("k")


def test_table_holds_every_error_of_the_store():
    assert set(STORE_FAILURES) == leaves()
    assert all(isinstance(failure_of(made(leaf)), Failure) for leaf in leaves())


def test_every_refusal_has_a_code_and_a_sentence():
    for leaf in all_leaves(Refusal):
        assert leaf.__module__ in MODULES
        assert leaf.code != "InternalError", leaf
        assert 400 <= leaf.status <= 599
        assert leaf.summary[-1] in ".!", leaf


def test_detail_of_an_invalid_argument_is_told():
    failure = failure_of(InvalidArgument("k", "too many"))
    assert failure is not None
    assert failure.message == "too many"


def test_broken_body_is_the_clients_fault():
    for error in (BodyStalled(), BodyMalformed()):
        failure = failure_of(error)
        assert failure is not None
        assert failure.status == 400


def test_our_own_mistakes_are_no_failures_of_a_request():
    assert failure_of(KeyError("x")) is None


def test_refused_head_has_a_code():
    assert failure_of_head(431, "x").code == "RequestHeaderSectionTooLarge"
    assert failure_of_head(400, "x").code == "InvalidRequest"
