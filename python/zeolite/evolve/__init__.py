"""Evolve: migrations of ZODB's objects beside the live site. docs/zodb.md has the recipes, docs/evolve.md what a job is.

    @evolve.step("cms.Doc", to=2)
    def titles(doc, tx):
        doc.title_lower = doc.title.lower()

    evolve.run("zeolite://127.0.0.1:7878/", "titles", titles)
"""

from .chunk import Tx
from .jobs import Job, plan, run, undo
from .steps import Step, step

__all__ = ["Job", "Step", "Tx", "plan", "run", "step", "undo"]
