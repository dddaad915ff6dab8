"""Books of the nineteenth and early twentieth century."""

from __future__ import annotations

from gt.data.readers.local import LOCAL, LocalFiles


class Classics(LocalFiles):
    """Books of 1800-1929, split by whole author (110 MB; local files only)."""

    name = "classics"
    source = f"${LOCAL}/classics/{{train_100MB,val,test}}.txt"
    licence = "US public domain"
    stems = {"train": "classics/train_100MB", "val": "classics/val", "test": "classics/test"}
    pinned = {
        "train": "1ad9e997d29a9d31e35caf94444c39f7a0551526d256a12adfcd5cdaff0b2a52",
        "val": "80d1eb987d3c1f7f80ff6d719549385754ccd9ad1c903aee053d501513ce1d78",
        "test": "f8f65a07b68be6e32d31171300bf4786112ef07546000904aa39b2a3d4efb6f0",
    }
