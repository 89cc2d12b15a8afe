"""What ends, ends at once: on open connections of S3, of S3 over TLS, of IAM and of STS.

Each way to end is tried on each, with one socket that is used before and after.
"""

from __future__ import annotations

import itertools
import socket
import ssl
import time
from types import SimpleNamespace

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from s3api.credentials import Credential
from store.identity.names import entity_arn
from store.identity.records import Kind, Role, User
from store.identity.sessions import Session, Source
from tests.s3api.conftest import ALICE
from tests.s3api.iamclients import document
from tests.s3api.permissions import CALLS, World
from tests.s3api.raw import receive

_names = itertools.count(1)
ACCOUNT = ALICE.account.id
ASKING = {
    "iam": b"Action=GetAccountSummary&Version=2010-05-08",
    "sts": b"Action=GetCallerIdentity&Version=2011-06-15",
}
TRUST = document("sts:AssumeRole", None, Principal={"AWS": ALICE.account.number})
GONE = ("InvalidAccessKeyId", "InvalidClientTokenId")
LATER_S = 1000
DOORS = ("s3", "s3 over TLS", "iam", "sts")


class Line:
    """One connection, kept from one request to the next."""

    def __init__(self, endpoint, door):
        self.world, self.door = World(endpoint), door
        port = endpoint.tls_port if "TLS" in door else endpoint.port
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=20)
        if "TLS" in door:
            context = ssl.create_default_context(cafile=endpoint.authority_path)
            self.socket = context.wrap_socket(self.socket, server_hostname="127.0.0.1")

    def ask(self, who):
        """The answer's code, "" where the request was granted."""
        request = self._of_iam(who) if self.door in ASKING else self._of_s3(who)
        self.socket.sendall(request)
        answer = receive(self.socket)
        assert answer.status in (200, 400, 403), answer
        return answer.code

    def _of_s3(self, who):
        return self.world.request(CALLS["GetObject"], who, "header", "")

    def _of_iam(self, who):
        host = f"127.0.0.1:{self.world.endpoint.port}"
        body = ASKING[self.door]
        asked = AWSRequest("POST", f"http://{host}/", data=body)
        asked.headers["Content-Type"] = "application/x-www-form-urlencoded"
        made = Credentials(who.access_key, who.secret_key, who.session_token or None)
        SigV4Auth(made, self.door, "us-east-1").add_auth(asked)
        lines = [f"host: {host}", f"content-length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in asked.headers.items()]
        return "\r\n".join(["POST / HTTP/1.1", *lines, "", ""]).encode() + body


class Holder:
    """A user with a key, who may do everything, and what may end."""

    def __init__(self, world):
        self.world, self.do = world, world.do
        self.identity = world.endpoint.namespace.identity
        self.name = f"ending-{next(_names)}"
        self.user = self.do(self.identity.holders.create_user, ACCOUNT, self.name, tags={})
        self.do(self.identity.holders.put_inline, ACCOUNT, User, self.name, "own", document("*"))

    def key(self, **more):
        made = self.do(self.identity.keys.create, ACCOUNT, self.name, **more)
        return Credential(access_key=made.key.id, secret_key=made.secret)

    def session(self, **fields):
        now_s, secret = int(time.time()), self.identity.new_secret()
        session = Session(
            account=ACCOUNT, secret=secret, issued_s=now_s, expires_s=now_s + 900, **fields
        )
        access_key, token = self.identity.start_session(session)
        return Credential(access_key=access_key, secret_key=secret, session_token=token)

    def own_session(self, line, via=""):
        if line.door == "iam":
            pytest.skip("a user's session may ask nothing of IAM")
        return self.session(source=Source.USER, owner=self.name, owner_id=self.user.id, via=via)


@pytest.fixture(params=DOORS)
def line(request, endpoint):
    made = Line(endpoint, request.param)
    yield made
    made.socket.close()


@pytest.fixture
def holder(line):
    return Holder(line.world)


def ends(line, who, end, codes=GONE):
    """The line serves `who` until `end` has been called, and not once more."""
    assert line.ask(who) == ""
    end()
    assert line.ask(who) in codes
    assert line.ask(ALICE) == "", "the line itself is still there"


def test_a_key_that_is_deleted(line, holder):
    key, keys = holder.key(), holder.identity.keys
    ends(line, key, lambda: holder.do(keys.delete, ACCOUNT, key.access_key))


def test_a_key_that_is_disabled(line, holder):
    key, keys = holder.key(), holder.identity.keys
    ends(line, key, lambda: holder.do(keys.enable, ACCOUNT, key.access_key, False))


def test_a_key_whose_secret_is_changed(line, holder):
    key, keys = holder.key(), holder.identity.keys
    rotate = lambda: holder.do(keys.rotate, ACCOUNT, key.access_key)  # noqa: E731
    ends(line, key, rotate, ("SignatureDoesNotMatch",))


def test_a_key_that_expires(line, holder, monkeypatch):
    key = holder.key(expires_s=int(time.time()) + 900)
    later = SimpleNamespace(time=lambda: time.time() + LATER_S)
    ends(line, key, lambda: monkeypatch.setattr("store.identity.service.time", later))


def test_a_user_who_loses_a_policy(line, holder):
    if line.door == "sts":
        pytest.skip("anybody may ask who they are")
    holders = holder.identity.holders
    remove = lambda: holder.do(holders.remove_inline, ACCOUNT, User, holder.name, "own")  # noqa: E731
    ends(line, holder.key(), remove, ("AccessDenied",))


def test_a_session_that_expires(line, holder, monkeypatch):
    later = SimpleNamespace(time=lambda: time.time() + LATER_S)
    expire = lambda: monkeypatch.setattr("s3api.credentials.time", later)  # noqa: E731
    ends(line, holder.own_session(line), expire, ("ExpiredToken",))


def test_a_session_whose_key_is_deleted(line, holder):
    key, keys = holder.key(), holder.identity.keys
    session = holder.own_session(line, via=key.access_key)
    ends(line, session, lambda: holder.do(keys.delete, ACCOUNT, key.access_key))


def test_a_session_whose_role_is_deleted(line, holder):
    holders, name = holder.identity.holders, f"role-of-{holder.name}"
    role = holder.do(holders.create_role, ACCOUNT, name, TRUST, tags={})
    holder.do(holders.put_inline, ACCOUNT, Role, name, "own", document("*"))
    session = holder.session(source=Source.ROLE, owner=name, owner_id=role.id, name="s")

    def end():
        holder.do(holders.remove_inline, ACCOUNT, Role, name, "own")
        holder.do(holders.delete, ACCOUNT, Role, name)

    ends(line, session, end)


def test_a_session_whose_provider_is_believed_no_more(line, holder):
    identity, url = holder.identity, f"https://{holder.name}.example"
    holder.do(identity.providers.create, ACCOUNT, url, ("c",), tags={})
    name = f"policy-of-{holder.name}"
    holder.do(identity.policies.create, ACCOUNT, name, document("*"), tags={})
    session = holder.session(
        source=Source.CLAIM,
        owner=url,
        owner_id="ann",
        name="s",
        attached=(entity_arn(ACCOUNT, Kind.POLICY, name),),
    )
    [provider] = [each for each in identity.providers.all(ACCOUNT) if each.url == url]
    arn = f"arn:aws:iam::{ALICE.account.number}:oidc-provider/{holder.name}.example"
    assert provider.url == url
    ends(line, session, lambda: holder.do(identity.providers.delete, ACCOUNT, arn))
