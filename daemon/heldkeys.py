"""The keys that the daemon holds beside the database: the root's, the users', the master key.

Rotating the root key writes its file anew, and from then on the old key is nobody's: sessions that
it asked for end, too. Rotating the master key seals every secret of the database under a new one;
whatever breaks that off, the file has both keys until all is done, and doing it again goes on.

Concurrency: one trio loop; one rotation at a time.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import trio

from daemon.masterkey import MasterKeyError, MasterKeys, add_master_key, drop_old_keys
from daemon.rootkey import RootKey, RootKeyError, make_root_key
from s3api.credentials import Credential, MemoryCredentials
from store.access.errors import SealBroken
from store.identity.service import Identity

log = logging.getLogger(__name__)


class NotRotated(Exception):
    """A key can't be rotated. The text is one sentence."""


class HeldKeys:
    """root, master: as they are now. fixed: the credentials of root and configured users."""

    def __init__(self, root: RootKey, users: Sequence[Credential], master: MasterKeys) -> None:
        self.root = root
        self.master = master
        self.fixed = MemoryCredentials(_credential(root), *users)
        self._rotating = trio.Lock()

    def rotate_root(self) -> RootKey:
        """A new root key in the file of the old one. Raises NotRotated."""
        old = self.root
        if old.file is None:
            raise NotRotated(
                "the root key comes from TWOFOLD_ROOT_USER and TWOFOLD_ROOT_PASSWORD: change it "
                "there, and restart"
            )
        try:
            new = make_root_key(old.file)
        except RootKeyError as error:
            raise NotRotated(str(error)) from error
        self.root = new
        self.fixed.put(_credential(new))
        self.fixed.remove(old.access_key)
        log.info("the root key is now %s", new.access_key)
        return new

    async def rotate_master(self, identity: Identity) -> int:
        """Seal all secrets under a new master key; how many those were. Raises NotRotated."""
        async with self._rotating:
            try:
                added = add_master_key(self.master)
                count = await identity.rotate_master_key(added.keyring)
                self.master = drop_old_keys(added)
            except (MasterKeyError, SealBroken) as error:
                raise NotRotated(str(error)) from error
            identity.use_keyring(self.master.keyring)
        log.info("%s secrets are sealed under a new master key", count)
        return count


def _credential(root: RootKey) -> Credential:
    return Credential(access_key=root.access_key, secret_key=root.secret_key)
