"""AWS Signature Version 4 for S3: who sent this request, and may its headers be believed?

A claim of version 2 is read by `s3api.sigv2` and decided on here too. The invariants 2 and 3 are
those of version 4; version 2 signs all x-amz-* headers, wherever they stand.

Invariants
  1. A request is anonymous, or all of these were checked: algorithm, scope, time, key, signature.
  2. `host` and every x-amz-* header that is present are signed; one that isn't is refused, so
     nobody can add one to another's signed request (CVE-2026-97731, CVE-2026-71191).
  3. A signed header is taken from the headers only, never from the query.
  4. Header and query credentials together are refused; so is a repeated X-Amz-* parameter.

Concurrency: synchronous, called on the loop. Source: as `s3api.signing`; error codes as Amazon S3
answers them.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence

from s3api import signing, sigv2
from s3api.claims import (
    AuthContext,
    Claim,
    Malformed,
    PayloadMode,
    is_hex64,
    is_presigned,
    parse_authorization,
    parse_credential,
    parse_payload_mode,
    parse_presigned,
    parse_timestamp,
)
from s3api.credentials import Credential, Credentials
from s3api.refusals import (
    AccessDenied,
    AuthorizationHeaderMalformed,
    AuthorizationQueryParametersError,
    InvalidAccessKeyId,
    InvalidArgument,
    InvalidRequest,
    InvalidToken,
    RequestTimeTooSkewed,
    SeveralAuthMechanisms,
    SignatureDoesNotMatch,
    UnsupportedSignature,
)

__all__ = ["AuthContext", "PayloadMode", "Verifier", "parse_query"]

SKEW_MAX_S = 15 * 60
QUERY_SERVICES = ("iam", "sts")
# A deployment has few (secret, day, region, service) scopes; the bound guards against a lottery
# of regions.
SIGNING_KEY_COUNT_MAX = 4096


class Verifier:
    """Verifies requests against `credentials`.

    region: what the scope must name; None accepts every region. domains: lower case; a host
    `<bucket>.<domain>` names a bucket, which version 2 signs.
    """

    def __init__(
        self,
        credentials: Credentials,
        *,
        region: str | None = "us-east-1",
        domains: Sequence[bytes] = (),
    ) -> None:
        self._credentials = credentials
        self._region = region
        self._domains = domains
        self._signing_keys: dict[tuple[str, str, str, str], bytes] = {}

    def authenticate(
        self,
        method: str,
        raw_path: bytes,
        query_string: bytes,
        headers: Sequence[tuple[bytes, bytes]],
        now_s: float,
    ) -> AuthContext:
        """The identity behind a request, anonymous if it claims none.

        headers: all of the request's, names in lower case. now_s: seconds since the epoch.
        Raises a Refusal, mostly an AuthError; then nothing of the request may be acted on.
        """
        by_name = signing.join_headers(headers)
        query = signing.split_query(query_string) if query_string else []
        authorization = by_name.get(b"authorization")
        if query and is_presigned(query):
            if authorization is not None:
                raise SeveralAuthMechanisms()
            claim = parse_presigned(query, by_name)
            credential = self._check_scope(claim, AuthorizationQueryParametersError)
            _check_presigned_time(claim, now_s)
            query = [pair for pair in query if pair[0] != b"X-Amz-Signature"]
        elif sigv2.is_claimed(query, authorization):
            return self._prove_version_2(method, raw_path, query, by_name, now_s)
        elif authorization is not None:
            claim = parse_authorization(authorization, by_name)
            credential = self._check_scope(claim, AuthorizationHeaderMalformed)
            _check_skew(claim, now_s)
            if not claim.payload:
                raise InvalidRequest(
                    "Missing required header for this request: x-amz-content-sha256"
                )
        else:
            return _anonymous(by_name)
        _check_token(claim, credential)
        _check_signed_names(claim, by_name)
        canonical_query = signing.canonical_query(query) if query else b""
        return self._prove(claim, credential, method, raw_path, canonical_query, by_name)

    def authenticate_query(
        self, headers: Sequence[tuple[bytes, bytes]], body_sha256: str, now_s: float
    ) -> AuthContext:
        """The identity behind a POST / to IAM or STS, anonymous if it claims none.

        Its body is part of the signature, whatever x-amz-content-sha256 says; clients sign for one
        region of these services or another. Raises as `authenticate`.
        """
        by_name = signing.join_headers(headers)
        authorization = by_name.get(b"authorization")
        if authorization is None:
            return AuthContext(access_key="")
        claim = parse_authorization(authorization, by_name, QUERY_SERVICES)
        claim.payload = body_sha256.encode()
        _check_date(claim, AuthorizationHeaderMalformed)
        _check_skew(claim, now_s)
        credential = self._find(claim)
        _check_token(claim, credential)
        _check_signed_names(claim, by_name)
        return self._prove(claim, credential, "POST", b"/", b"", by_name)

    def authenticate_policy(self, fields: Mapping[str, str], now_s: float) -> AuthContext:
        """The identity behind a POST form, whose `policy` field is what is signed.

        fields: the form's, names in lower case. The policy's conditions and its expiration are the
        caller's to check. A form without signature fields is anonymous. Raises AuthError.
        """
        if "signature" in fields or "awsaccesskeyid" in fields:
            return self._prove_form_version_2(fields)
        if not any(f"x-amz-{name}" in fields for name in ("signature", "credential", "algorithm")):
            return AuthContext(access_key="")
        if fields.get("x-amz-algorithm") != signing.ALGORITHM:
            raise UnsupportedSignature()
        policy, signature = fields.get("policy", ""), fields.get("x-amz-signature", "").lower()
        if not policy or not is_hex64(signature):
            raise AccessDenied("A signed form needs a policy and a signature.")
        malformed = AuthorizationQueryParametersError
        claim = parse_credential(fields.get("x-amz-credential", ""), malformed)
        claim.timestamp = fields.get("x-amz-date", "")
        claim.session_token = fields.get("x-amz-security-token", "").encode()
        signed_at_s = parse_timestamp(claim.timestamp)
        if signed_at_s is None or signed_at_s - now_s > SKEW_MAX_S:
            raise AccessDenied("x-amz-date is malformed or lies in the future.")
        credential = self._check_scope(claim, malformed)
        _check_token(claim, credential)
        key = self._signing_key(claim, credential)
        if not hmac.compare_digest(signing.signature(key, policy), signature):
            raise SignatureDoesNotMatch(extras=(("AWSAccessKeyId", claim.access_key),))
        return AuthContext(
            access_key=claim.access_key,
            account=credential.account,
            access=credential.access,
            facts=credential.facts,
            maker=credential.maker,
            timestamp=claim.timestamp,
            scope=claim.scope,
            seed_signature=signature,
            signing_key=key,
        )

    def _prove_form_version_2(self, fields: Mapping[str, str]) -> AuthContext:
        access_key, proof = fields.get("awsaccesskeyid", ""), fields.get("signature", "")
        policy = fields.get("policy", "")
        if not access_key or not proof or not policy:
            raise InvalidArgument(
                "A signed form must contain the fields 'AWSAccessKeyId', 'policy' and 'signature'."
            )
        claim = Claim(
            access_key=access_key,
            date="",
            region="",
            scope="",
            session_token=fields.get("x-amz-security-token", "").encode(),
        )
        credential = self._find(claim)
        _check_token(claim, credential)
        expected = sigv2.signature(credential.secret_key, policy.encode())
        if not hmac.compare_digest(expected, proof.encode()):
            raise SignatureDoesNotMatch(extras=(("AWSAccessKeyId", access_key),))
        return AuthContext(
            access_key=access_key,
            account=credential.account,
            access=credential.access,
            facts=credential.facts,
            maker=credential.maker,
        )

    def _check_scope(self, claim: Claim, malformed: Malformed) -> Credential:
        """Check date and region of the scope; returns the credential to prove the claim with."""
        _check_date(claim, malformed)
        if self._region is not None and claim.region != self._region:
            raise malformed(
                f"the region '{claim.region}' is wrong; expecting '{self._region}'",
                extras=(("Region", self._region),),
            )
        return self._find(claim)

    def _find(self, claim: Claim) -> Credential:
        credential = self._credentials.find(claim.access_key, claim.session_token.decode("latin-1"))
        if credential is None:
            raise InvalidAccessKeyId(extras=(("AWSAccessKeyId", claim.access_key),))
        return credential

    def _prove_version_2(
        self,
        method: str,
        raw_path: bytes,
        query: Sequence[signing.Pair],
        by_name: Mapping[bytes, bytes],
        now_s: float,
    ) -> AuthContext:
        claim = sigv2.parse_claim(query, by_name)
        credential = self._find(claim)
        if not claim.expires_s:
            _check_skew(claim, now_s)
        elif now_s > claim.expires_s:
            raise _expired(claim.expires_s, now_s)
        _check_token(claim, credential)
        texts = sigv2.strings_to_sign(claim, method, raw_path, query, by_name, self._domains)
        proofs = [sigv2.signature(credential.secret_key, text) for text in texts]
        claimed = claim.signature.encode("latin-1")
        if not any(hmac.compare_digest(proof, claimed) for proof in proofs):
            raise SignatureDoesNotMatch(
                extras=(
                    ("AWSAccessKeyId", claim.access_key),
                    ("StringToSign", texts[0].decode("latin-1")),
                    ("SignatureProvided", claim.signature),
                )
            )
        mode, payload_sha256 = _unsigned_payload(by_name)
        return AuthContext(
            access_key=claim.access_key,
            account=credential.account,
            access=credential.access,
            facts=credential.facts,
            maker=credential.maker,
            presigned=claim.expires_s > 0,
            payload_mode=mode,
            payload_sha256=payload_sha256,
        )

    def _prove(
        self,
        claim: Claim,
        credential: Credential,
        method: str,
        raw_path: bytes,
        query: bytes,
        by_name: Mapping[bytes, bytes],
    ) -> AuthContext:
        """Recompute the signature: the last step, all else about the claim holds."""
        mode, payload_sha256 = parse_payload_mode(claim.payload)
        path = signing.canonical_path(raw_path)
        request = signing.canonical_request(
            method, path, query, by_name, claim.signed_names, claim.payload
        )
        text = signing.string_to_sign(claim.timestamp, claim.scope, request)
        key = self._signing_key(claim, credential)
        signature = signing.signature(key, text)
        if not hmac.compare_digest(signature, claim.signature):
            raise SignatureDoesNotMatch(
                extras=(
                    ("AWSAccessKeyId", claim.access_key),
                    ("StringToSign", text),
                    ("SignatureProvided", claim.signature),
                    ("CanonicalRequest", request.decode("latin-1")),
                )
            )
        return AuthContext(
            access_key=claim.access_key,
            account=credential.account,
            access=credential.access,
            facts=credential.facts,
            maker=credential.maker,
            presigned=claim.expires_s > 0,
            payload_mode=mode,
            payload_sha256=payload_sha256,
            signed_headers=frozenset(claim.signed_names),
            timestamp=claim.timestamp,
            scope=claim.scope,
            seed_signature=signature,
            signing_key=key,
        )

    def _signing_key(self, claim: Claim, credential: Credential) -> bytes:
        # The secret is part of the cache's key: a changed secret can't be proved with an old key.
        parts = (credential.secret_key, claim.date, claim.region, claim.service)
        key = self._signing_keys.get(parts)
        if key is None:
            if len(self._signing_keys) >= SIGNING_KEY_COUNT_MAX:
                self._signing_keys.clear()
            key = signing.signing_key(*parts)
            self._signing_keys[parts] = key
        return key


def parse_query(query_string: bytes) -> list[tuple[str, str]]:
    """Decoded (name, value) pairs in their order, "+" and "%20" both a space.

    Signatures are computed from the same decoding, so what is verified is what is acted on.
    Raises InvalidArgument for bad UTF-8.
    """
    if not query_string:
        return []
    try:
        pairs = signing.split_query(query_string)
        return [(name.decode(), value.decode()) for name, value in pairs]
    except UnicodeDecodeError:
        raise InvalidArgument("The query is not valid UTF-8.") from None


def _anonymous(by_name: Mapping[bytes, bytes]) -> AuthContext:
    mode, payload_sha256 = _unsigned_payload(by_name)
    return AuthContext(access_key="", payload_mode=mode, payload_sha256=payload_sha256)


def _unsigned_payload(by_name: Mapping[bytes, bytes]) -> tuple[PayloadMode, str]:
    """How the body comes in a request without a key that its chunks could be signed with."""
    payload = by_name.get(b"x-amz-content-sha256", b"UNSIGNED-PAYLOAD")
    mode, payload_sha256 = parse_payload_mode(payload)
    if mode in (PayloadMode.STREAMING, PayloadMode.STREAMING_TRAILER):
        raise AccessDenied("A signed payload needs a version 4 signature.")
    return mode, payload_sha256


def _check_date(claim: Claim, malformed: Malformed) -> None:
    if claim.timestamp[:8] != claim.date:
        raise malformed(
            f'Invalid credential date "{claim.date}". This date is not the same as '
            f'X-Amz-Date: "{claim.timestamp[:8]}".'
        )


def _check_skew(claim: Claim, now_s: float) -> None:
    if abs(now_s - claim.signed_at_s) > SKEW_MAX_S:
        raise RequestTimeTooSkewed(
            extras=(
                ("RequestTime", claim.timestamp),
                ("ServerTime", signing.format_timestamp(now_s)),
                ("MaxAllowedSkewMilliseconds", str(SKEW_MAX_S * 1000)),
            )
        )


def _check_presigned_time(claim: Claim, now_s: float) -> None:
    if claim.signed_at_s - now_s > SKEW_MAX_S:
        raise AccessDenied("Request is not valid yet")
    expires_at_s = claim.signed_at_s + claim.expires_s
    if now_s > expires_at_s:
        raise _expired(expires_at_s, now_s, ("X-Amz-Expires", str(claim.expires_s)))


def _expired(expires_at_s: int, now_s: float, *extras: tuple[str, str]) -> AccessDenied:
    return AccessDenied(
        "Request has expired",
        extras=(
            *extras,
            ("Expires", signing.format_timestamp(expires_at_s)),
            ("ServerTime", signing.format_timestamp(now_s)),
        ),
    )


def _check_token(claim: Claim, credential: Credential) -> None:
    if not hmac.compare_digest(claim.session_token, credential.session_token.encode()):
        raise InvalidToken()


def _check_signed_names(claim: Claim, by_name: Mapping[bytes, bytes]) -> None:
    """Invariants 2 and 3."""
    signed_names = claim.signed_names
    unsigned = [
        name.decode("latin-1")
        for name in by_name
        if name.startswith(b"x-amz-") and name not in signed_names
    ]
    if b"host" not in signed_names:
        unsigned.append("host")
    if unsigned:
        raise AccessDenied(
            "There were headers present in the request which were not signed",
            extras=(("HeadersNotSigned", ", ".join(unsigned)),),
        )
    for name in signed_names:
        if name not in by_name:
            raise SignatureDoesNotMatch(
                f"The signed header {name.decode('latin-1')} is not present in the request."
            )
