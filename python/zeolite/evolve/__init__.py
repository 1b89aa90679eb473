"""Evolve: migrations of ZODB's objects beside the live site. docs/zodb.md has the recipes, docs/evolve.md what a job is.

    @evolve.step("cms.Doc", to=2)
    def titles(doc, tx):
        doc.title_lower = doc.title.lower()

    evolve.run("zeolite://127.0.0.1:7878/", "titles", titles)
"""

from .chunk import Tx
from .jobs import Job, dry_run, plan, run, undo
from .steps import Step, step
from .trying import DryRun

__all__ = ["DryRun", "Job", "Step", "Tx", "dry_run", "plan", "run", "step", "undo"]
