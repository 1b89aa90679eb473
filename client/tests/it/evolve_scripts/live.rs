//! Owns a script's live client: one of the site's, of old code or of new.
//!
//! ```text
//!   begin · commit        around the following; without them each is a transaction of its own
//!   edit PAGE             reads, appends to the text, counts the edit        write PAGE TEXT    blindly
//!   get PAGE · create PAGE TEXT · remove PAGE · add N (to the counter)
//!   busy N                N commits that have nothing to do with pages
//!   prepare · finish · abort      in two phases
//! ```

use super::names::Names;
use crate::site::{OldPage, Page};
use crate::support::World;
use std::time::Duration;
use zeolite_client::collections::Counter;
use zeolite_client::{Db, Error, Options, Prepared, Receipt, Ref, Resolvers, Tx, evolve};

/// Longer than any script.
const PREPARED_FOR: Duration = Duration::from_secs(60);

pub(crate) struct Live {
    db: Db,
    is_old: bool,
    tx: Option<Tx>,
    prepared: Option<Prepared>,
}

impl Live {
    pub(crate) async fn connect(world: &World, name: &str) -> Live {
        let mut resolvers = Resolvers::built_in();
        if name.starts_with("live") {
            evolve::merge_upgrades::<Page>(&mut resolvers);
        }
        let db = world.db_with(Options::new().name(name).resolvers(resolvers)).await;
        Live { db, is_old: name.starts_with("old"), tx: None, prepared: None }
    }

    pub(crate) async fn run(
        &mut self,
        words: &[&str],
        names: &mut Names,
        counter: Counter,
    ) -> Result<Option<String>, String> {
        let committed = |done: Result<Receipt, Error>, names: &Names| {
            Ok(Some(done.map_or_else(|error| names.tame(&error.to_string()), |receipt| show_receipt(&receipt, names))))
        };
        match words {
            ["begin"] => {
                self.tx = Some(self.begin().await);
                Ok(None)
            }
            ["commit"] => {
                let tx = self.tx.take().ok_or("begin first")?;
                committed(tx.commit().await, names)
            }
            ["prepare"] => {
                let tx = self.tx.take().ok_or("begin first")?;
                match tx.prepare(PREPARED_FOR).await {
                    Ok(prepared) => self.prepared = Some(prepared),
                    Err(error) => return Ok(Some(names.tame(&error.to_string()))),
                }
                Ok(Some("prepared".into()))
            }
            ["finish"] => {
                let prepared = self.prepared.take().ok_or("prepare first")?;
                committed(prepared.finish().await, names)
            }
            ["abort"] => {
                let prepared = self.prepared.take().ok_or("prepare first")?;
                Ok(Some(prepared.abort().await.map_or_else(|error| error.to_string(), |()| "aborted".into())))
            }
            ["get", page] => {
                let (page, tx) = (names.page(page)?, self.begin().await);
                Ok(Some(self.get(&tx, page).await.unwrap_or_else(|error| names.tame(&error.to_string()))))
            }
            ["busy", commits] => {
                let commits: u32 = commits.parse().map_err(|_| "busy N".to_owned())?;
                for _ in 0..commits {
                    counter_of_nobody(&self.db).await.map_err(|error| error.to_string())?;
                }
                Ok(None)
            }
            _ => {
                let (tx, alone) = match self.tx.take() {
                    Some(tx) => (tx, false),
                    None => (self.begin().await, true),
                };
                match self.write(&tx, words, names, counter).await? {
                    Err(error) => Ok(Some(names.tame(&error.to_string()))),
                    Ok(()) if alone => committed(tx.commit().await, names),
                    Ok(()) => {
                        self.tx = Some(tx);
                        Ok(None)
                    }
                }
            }
        }
    }

    /// Sees whatever anybody was told before.
    async fn begin(&self) -> Tx {
        self.db.transaction().fresh().begin().await.expect("begins")
    }

    async fn get(&self, tx: &Tx, page: zeolite_client::Oid) -> Result<String, Error> {
        let (text, edits) = if self.is_old {
            let page: OldPage = tx.load(Ref::new(page)).await?;
            (page.text, page.edits)
        } else {
            let page: Page = tx.load(Ref::new(page)).await?;
            (page.text, page.edits)
        };
        Ok(format!("{text:?}, {edits} edits"))
    }

    async fn write(
        &self,
        tx: &Tx,
        words: &[&str],
        names: &mut Names,
        counter: Counter,
    ) -> Result<Result<(), Error>, String> {
        Ok(match words {
            ["edit", page] => {
                let oid = names.page(page)?;
                if self.is_old {
                    let edit =
                        |page: &mut OldPage| (page.text, page.edits) = (format!("{}!", page.text), page.edits + 1);
                    tx.update(Ref::<OldPage>::new(oid), edit).await
                } else {
                    let edit = |page: &mut Page| *page = new_page(format!("{}!", page.text), page.edits + 1);
                    tx.update(Ref::<Page>::new(oid), edit).await
                }
            }
            ["write", page, text @ ..] => {
                let (oid, text) = (names.page(page)?, text.join(" "));
                if self.is_old {
                    tx.set(Ref::new(oid), &OldPage { text, edits: 0 })
                } else {
                    tx.set(Ref::new(oid), &new_page(text, 0))
                }
            }
            ["create", page, text @ ..] => {
                let text = text.join(" ");
                let made = if self.is_old {
                    tx.create(&OldPage { text, edits: 0 }).await.map(|page| page.oid())
                } else {
                    tx.create(&new_page(text, 0)).await.map(|page| page.oid())
                };
                made.map(|oid| names.name(page, oid))
            }
            ["remove", page] => tx.remove(Ref::<Page>::new(names.page(page)?)),
            ["add", number] => counter.add(tx, number.parse().map_err(|_| format!("{number:?} is not a number"))?),
            _ => return Err(format!("a live client knows no command {:?}", words.join(" "))),
        })
    }
}

/// A live commit that has nothing to do with any page.
async fn counter_of_nobody(db: &Db) -> Result<(), Error> {
    db.run(async |tx| tx.root_or_create::<Counter>("visits").await?.add(&tx, 1)).await
}

fn new_page(text: String, edits: u64) -> Page {
    Page { length: text.len() as u64, text, edits }
}

fn show_receipt(receipt: &Receipt, names: &Names) -> String {
    let merged: Vec<String> = receipt.merged.iter().map(|merged| names.show_cell(&merged.cell)).collect();
    if merged.is_empty() { "committed".into() } else { format!("committed, merged {}", merged.join(", ")) }
}
