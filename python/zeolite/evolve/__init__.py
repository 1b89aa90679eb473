"""Evolve: migrations of ZODB's objects beside the live site. docs/zodb.md has the recipes, docs/evolve.md what a job is.

    @evolve.step("cms.Doc", to=2)
    def titles(doc, tx):
        doc.title_lower = doc.title.lower()

    evolve.run("zeolite://127.0.0.1:7878/", "titles", titles)

For the loop of a script that there is already: ``evolve.each(docs, step)``.
"""

from .chunk import Tx
from .each import Report, Unfinished, each
from .jobs import Job, dry_run, plan, run, undo
from .steps import Step, step
from .trying import DryRun

__all__ = ["DryRun", "Job", "Report", "Step", "Tx", "Unfinished", "dry_run", "each", "plan", "run", "step", "undo"]
