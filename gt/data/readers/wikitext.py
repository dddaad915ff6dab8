"""WikiText (Merity et al. 2016, arXiv:1609.07843)."""

from __future__ import annotations

from collections.abc import Iterator

from gt.data.reader import Document, Reader
from gt.data.readers.hub import rows
from gt.data.readers.local import LOCAL, LocalFiles


class WikiText2(LocalFiles):
    """Wikipedia articles, tokenised, with <unk>; official splits (13 MB; local files only)."""

    name = "wikitext-2"
    source = f"${LOCAL}/wikitext-2/{{train,valid,test}}.txt"
    licence = "CC BY-SA 3.0"
    stems = {"train": "wikitext-2/train", "val": "wikitext-2/valid", "test": "wikitext-2/test"}
    pinned = {
        "train": "9e9fa1ad55b1c2c95b08e37dd8e653f638fac2c6de904b79e813611eefbc985f",
        "val": "f0737ed31fc1329026e95cb8b98e19c2a182c39c240ab909dc31abf2f8af58e8",
        "test": "d790b833ef8cf03a90db7bf1271b7520b83c45ce07ba3c1a9699df81e239eca0",
    }


class WikiText103(Reader):
    """Wikipedia articles, raw form; official splits (546 MB).

    Blank lines, which are empty rows of the data set, are " \\n" as they were published.
    """

    name = "wikitext-103"
    source = "https://huggingface.co/datasets/Salesforce/wikitext"
    licence = "CC BY-SA 3.0"
    dataset = {
        "path": "Salesforce/wikitext",
        "name": "wikitext-103-raw-v1",
        "revision": "b08601e04326c79dfdd32d625aee71d232d685c3",
    }

    def documents(self) -> Iterator[Document]:
        for split, theirs in (("train", "train"), ("val", "validation"), ("test", "test")):
            for text in rows(self.name, "text", **self.dataset, split=theirs):
                yield Document(text or " \n", split, ends=False)
