"""Ends at a start what a power cut stopped: the raise of an epoch that not all labels were told of.

Rule: a drive that all labels of the newest epoch name as told of it, and whose own label is older,
missed nothing. For one that can't be told is given up by one more epoch (`Pool.raise_epoch`),
before anything is acknowledged that a copy of the metadata on it lacks; and of bytes that a drive
lacks the rows say so. Without this the few drives that had been told would be all the pool there
is, and none of them may hold a copy of the metadata.
Concurrency: blocking, before the loop.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

from store.chunks.drive_io import DriveIO
from store.chunks.label import Label
from store.chunks.types import DriveId

log = logging.getLogger(__name__)


def cut_off(labels: Sequence[Label]) -> set[DriveId]:
    """The drives of these labels that a power cut kept from the newest epoch."""
    newest = max(label.epoch for label in labels)
    named = [
        {member.drive for member in label.members if member.epoch == newest}
        for label in labels
        if label.epoch == newest
    ]
    behind = {label.drive for label in labels if label.epoch < newest}
    return behind.intersection(*named)


def finish_raise(newest: Label, found: list[tuple[DriveIO, Label]]) -> None:
    """Give those drives the newest label; one that can't be written stays behind."""
    late = cut_off([label for _, label in found])
    for index, (io, label) in enumerate(found):
        if label.drive in late:
            told = replace(newest, drive=label.drive)
            try:
                io.write_label(told)
            except OSError as error:
                log.warning("%s: its label can't be written: %s", io.path, error)
            else:
                found[index] = (io, told)
