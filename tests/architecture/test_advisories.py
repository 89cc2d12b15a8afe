"""Advisories about other servers, and the test that each of them became here.

`TRIED` maps each advisory to a test; `NOT_HERE` says why one has none. Both together are what we
know of (MinIO, Ceph, Swift, SeaweedFS, RustFS, h11), and may only grow; what moves from the latter
to the former is welcome. Advisories of RustFS go by the first four letters of their ids.
"""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
KNOWN_MIN = 85
TRIED_MIN = 81

_AUTHORIZATION = "tests/s3api/test_authorization_advisories.py"
_MORE = "tests/s3api/test_advisories.py"
_TOKENS = "tests/store/access/test_tokens.py"
_FUZZ = "tests/fuzz/test_corpus.py::test_what_is_nearly_a_seed_is_understood_or_refused"

_BY_TEST = {
    f"{_AUTHORIZATION}::test_cve_2025_31489_a_wrong_secret_is_refused_by_every_operation": (
        "CVE-2025-31489 CVE-2026-40344 CVE-2026-41145"
    ),
    f"{_AUTHORIZATION}::test_cve_2026_97731_what_was_not_signed_is_not_honoured": (
        "CVE-2026-97731 CVE-2026-71191"
    ),
    f"{_AUTHORIZATION}::test_cve_2020_11012_administration_needs_the_secret": "CVE-2020-11012",
    f"{_AUTHORIZATION}::test_cve_2023_28432_nothing_is_told_to_whom_nobody_knows": (
        "CVE-2023-28432"
    ),
    f"{_AUTHORIZATION}::test_cve_2023_28434_a_form_reaches_no_bucket_but_the_signed_one": (
        "CVE-2023-28434 CVE-2023-43040"
    ),
    f"{_AUTHORIZATION}::test_cve_2021_21362_a_form_of_who_may_only_read_is_refused": (
        "CVE-2021-21362 GHSA-w5fh"
    ),
    f"{_MORE}::test_cve_2021_21287_a_provider_leads_nowhere_else": (
        "CVE-2021-21287 CVE-2026-73080 CVE-2026-50221 GHSA-m479"
    ),
    f"{_AUTHORIZATION}::test_cve_2021_43858_a_key_is_never_more_than_its_user": (
        "CVE-2021-43858 CVE-2022-24842 CVE-2024-24747 CVE-2025-62506"
    ),
    f"{_AUTHORIZATION}::test_ghsa_5354_who_is_only_denied_something_is_allowed_nothing": (
        "GHSA-5354 GHSA-566f GHSA-xgr5"
    ),
    f"{_MORE}::test_cve_2024_55949_every_action_of_iam_needs_its_own_permission": (
        "CVE-2024-55949 GHSA-mm2q GHSA-pfcq GHSA-f5cv GHSA-jqmc"
    ),
    f"{_MORE}::test_ghsa_vcwh_actions_of_sts_are_nobodys_without_a_signature": "GHSA-vcwh",
    f"{_AUTHORIZATION}::test_cve_2023_25812_who_is_denied_the_bypass_does_not_bypass": (
        "CVE-2023-25812"
    ),
    "tests/store/test_locks.py::test_a_locked_file_is_read_and_not_written": "GHSA-j548",
    f"{_AUTHORIZATION}::test_cve_2024_36107_conditions_tell_nothing_to_who_may_not_read": (
        "CVE-2024-36107"
    ),
    f"{_MORE}::test_cve_2026_34204_no_header_becomes_a_word_of_ours": "CVE-2026-34204",
    "tests/store/test_xattrs.py::test_what_can_not_be_kept_is_refused": "GHSA-3rh2",
    f"{_AUTHORIZATION}::test_cve_2022_35919_dots_lead_nowhere_else": (
        "CVE-2022-35919 CVE-2026-42600 CVE-2026-54917 CVE-2026-58372 GHSA-8r6f GHSA-pq29 GHSA-f4vq"
    ),
    f"{_TOKENS}::test_a_public_key_is_no_shared_secret": "CVE-2026-33322 CVE-2026-113466",
    f"{_TOKENS}::test_no_signature_is_no_signature": "GHSA-r5qv",
    f"{_TOKENS}::test_a_key_that_the_token_brings_along_is_not_looked_at": "GHSA-h956",
    "tests/daemon/test_rootkey.py::"
    "test_an_unfit_key_of_the_environment_is_refused_without_showing_it": "GHSA-j59h",
    f"{_AUTHORIZATION}::test_cve_2026_39360_a_copy_needs_the_right_to_its_source_and_its_target": (
        "CVE-2026-39360 GHSA-3ppv CVE-2015-5223"
    ),
    f"{_AUTHORIZATION}::test_cve_2026_21862_no_header_says_where_a_request_is_from": (
        "CVE-2026-21862 GHSA-6r96"
    ),
    f"{_AUTHORIZATION}::test_ghsa_v9cp_sets_of_values_are_compared_as_sets": "GHSA-v9cp",
    "tests/daemon/test_identity.py::"
    "test_a_restart_keeps_everything_and_no_secret_is_kept_in_the_clear": (
        "GHSA-r54g GHSA-8cm2 GHSA-333v GHSA-3495"
    ),
    "tests/daemon/test_logs.py::test_a_secret_is_taken_out_wherever_it_stands": (
        "CVE-2018-16889 CVE-2017-8761"
    ),
    f"{_MORE}::test_ghsa_3p3x_secrets_are_compared_in_a_time_that_tells_nothing": (
        "GHSA-3p3x CVE-2014-0006"
    ),
    "tests/daemon/test_control.py::test_only_its_owner_may_connect_and_it_is_gone_afterwards": (
        "GHSA-3g29 GHSA-g3vq CVE-2026-72920"
    ),
    f"{_MORE}::test_cve_2020_10753_no_parameter_breaks_out_of_its_header": (
        "CVE-2020-10753 CVE-2021-3524 GHSA-x5xv"
    ),
    "tests/s3api/test_cors.py::test_rule_for_all_origins_says_so_and_shares_no_cookies": (
        "GHSA-v9fg"
    ),
    "tests/s3api/test_accounts.py::test_nobody_chooses_headers_of_an_answer": ("CVE-2020-1760"),
    _FUZZ: (
        "CVE-2018-7262 CVE-2019-10222 CVE-2019-19337 CVE-2020-12059 CVE-2022-3854 GHSA-gw2x "
        "CVE-2026-71190"
    ),
    "tests/s3api/test_http1_life.py::test_aborted_connections_leave_nothing_behind": (
        "CVE-2020-1700 CVE-2019-3821 CVE-2016-0738 CVE-2022-31028"
    ),
    "tests/s3api/test_xml.py::test_suspicious_documents_are_malformed": "CVE-2022-47950",
    "tests/s3api/test_chunked.py::test_truncation_at_every_byte_is_refused": "CVE-2026-49017",
    "tests/s3api/test_http1_requests.py::"
    "test_malformed_chunk_is_refused_and_what_follows_is_no_request": "CVE-2025-43859",
}
TRIED = {advisory: test for test, listed in _BY_TEST.items() for advisory in listed.split()}
NOT_HERE = {
    "CVE-2026-33419": "there is no log-in with a password, of which users could be guessed",
    "GHSA-xrrf": "there is no encryption of objects yet; who asks for it is refused",
    "GHSA-9c4q": "there is no extraction of archives",
    "GHSA-hv4r": "there is no extraction of archives",
}


@cache
def functions_of(path: Path) -> frozenset[str]:
    """Every function that a file defines at its top."""
    nodes = ast.parse(path.read_text()).body
    return frozenset(n.name for n in nodes if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef))


@pytest.mark.parametrize("test", _BY_TEST)
def test_every_advisory_that_is_tried_has_its_test(test: str) -> None:
    path, _, function = test.partition("::")
    assert function in functions_of(ROOT / path)


def test_advisories_become_no_fewer() -> None:
    assert len(TRIED) == sum(len(listed.split()) for listed in _BY_TEST.values()), (
        "one stands twice"
    )
    assert not TRIED.keys() & NOT_HERE.keys()
    assert len(TRIED) >= TRIED_MIN
    assert len(TRIED) + len(NOT_HERE) >= KNOWN_MIN


def test_every_test_that_is_named_for_an_advisory_is_in_the_table() -> None:
    for name in (_AUTHORIZATION, _MORE):
        named = {
            each for each in functions_of(ROOT / name) if each.startswith(("test_cve", "test_ghsa"))
        }
        assert {f"{name}::{each}" for each in named} <= _BY_TEST.keys()
