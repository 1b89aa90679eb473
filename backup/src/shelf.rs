//! Owns what there is of a database in a place: its chains, their backups, and what a cut run has left.
//!
//! ```text
//!   0001 whole, 0002 whole, 0003 damaged, 0004     a chain counts up to what is damaged, and says what that is
//! ```
//! What does not open makes its own chain a broken one, and no other; only where nothing opens at all it is told as what it is: that
//! is a wrong key, or a program that is too old.

use crate::errors::{Error, Result};
use crate::manifest::{Extent, Manifest, Sum};
use crate::place::{Found, Place};
use crate::sealed::sum_of;
use zeolite_client::Tid;

/// Backups of one chain at most: then a new one begins.
pub(crate) const NUMBER_MAX: u32 = 9999;

/// A backup that is there.
#[derive(Clone, Debug)]
pub struct Backup {
    /// What is said of it.
    pub manifest: Manifest,
    /// The sum of its manifest.
    pub(crate) sum: Sum,
}

/// A full backup and what follows it, in order.
#[derive(Clone, Debug)]
pub struct Chain {
    /// Its name: number, time, and eight digits that no other has.
    pub name: String,
    /// The backups up to the first that is missing or damaged.
    pub backups: Vec<Backup>,
    /// Why what follows does not count; none: nothing follows.
    pub broken: Option<String>,
    /// Those that are not whole.
    pub(crate) begun: Vec<Progress>,
    /// The directories in it, by their names: runs, those that a manifest names and leavings.
    pub(crate) runs: Vec<String>,
    pub(crate) dir: String,
}

/// A backup that is not whole, as far as it has said how far it is.
#[derive(Clone, Debug)]
pub(crate) struct Progress {
    pub(crate) number: u32,
    pub(crate) run: String,
    /// None: it is not whole itself.
    pub(crate) manifest: Option<Manifest>,
}

/// Everything of a database.
#[derive(Clone, Debug)]
pub struct Shelf {
    /// The database.
    pub database: String,
    /// The oldest first.
    pub chains: Vec<Chain>,
}

/// The name of a manifest in its chain.
pub(crate) fn manifest_name(number: u32) -> String {
    format!("{number:04}.manifest")
}

/// The databases that a place has something of.
pub async fn databases(place: &Place) -> Result<Vec<String>> {
    Ok(place.listing("").await?.1)
}

impl Shelf {
    /// Looks at everything of a database.
    pub async fn look(place: &Place, database: &str) -> Result<Shelf> {
        let (_, names) = place.listing(database).await?;
        let (mut chains, mut refused) = (Vec::new(), None);
        for name in names.into_iter().filter(|name| number(name).is_some()) {
            chains.push(chain(place, database, name, &mut refused).await?);
        }
        let opens = |chain: &Chain| !chain.backups.is_empty() || chain.begun.iter().any(|cut| cut.manifest.is_some());
        match refused {
            Some(refused) if !chains.iter().any(opens) => Err(refused),
            _ => Ok(Shelf { database: database.to_owned(), chains }),
        }
    }

    /// The same with one of its chains alone.
    pub fn only(self, name: &str) -> Result<Shelf> {
        let Shelf { database, chains } = self;
        let names: Vec<String> = chains.iter().map(|chain| chain.name.clone()).collect();
        let chains: Vec<Chain> = chains.into_iter().filter(|chain| chain.name == name).collect();
        if chains.is_empty() {
            let names = names.join(", ");
            return Err(Error::Refused(format!("there is no chain {name} of {database} here; there are: {names}")));
        }
        Ok(Shelf { database, chains })
    }

    /// What is damaged in a chain and in those behind it: something newer than its backups may have been there.
    pub fn damage_from(&self, chain: &Chain) -> Vec<String> {
        let behind = self.chains.iter().skip_while(|other| other.name != chain.name);
        behind.filter_map(|chain| chain.broken.clone()).collect()
    }

    /// The newest backup that is whole, with its chain.
    pub fn newest(&self) -> Option<(&Chain, &Backup)> {
        self.chains.iter().rev().find_map(|chain| Some((chain, chain.backups.last()?)))
    }
}

impl Chain {
    /// From when on any moment can be restored from it.
    pub fn since(&self) -> Tid {
        self.backups.first().map_or(Tid::NONE, |full| full.manifest.packed_to)
    }

    /// Of which store and life it is; none: it has no backup.
    pub(crate) fn life(&self) -> Option<(u64, u64)> {
        self.backups.first().map(|full| (full.manifest.store_id, full.manifest.timeline))
    }

    /// Up to when.
    pub fn covers(&self) -> Tid {
        self.backups.last().map_or(Tid::NONE, |last| last.manifest.covers)
    }
}

/// The name of a chain that is begun now: numbered, since clocks are set; the time in it is for people.
pub(crate) fn new_chain(shelf: &Shelf, now_unix_ms: u64, dice: &str) -> String {
    let last = shelf.chains.last().and_then(|chain| number(&chain.name)).unwrap_or(0);
    let time = Tid::from_unix_nanos(i128::from(now_unix_ms) * 1_000_000).utc();
    let digits: String = time.chars().filter(char::is_ascii_digit).take(14).collect();
    let (day, hour) = digits.split_at(digits.len().min(8));
    format!("{:06}-{day}T{hour}Z-{dice}", last + 1)
}

/// The number of a chain; none: it is no name of one.
fn number(name: &str) -> Option<u32> {
    let (number, rest) = name.split_once('-')?;
    let is_one = number.len() == 6 && rest.as_bytes().get(8) == Some(&b'T') && rest.as_bytes().get(15) == Some(&b'Z');
    number.parse().ok().filter(|_| is_one)
}

/// `refused` gets why the first manifest was refused that was.
async fn chain(place: &Place, database: &str, name: String, refused: &mut Option<Error>) -> Result<Chain> {
    let dir = format!("{database}/{name}");
    let (files, runs) = place.listing(&dir).await?;
    let (mut backups, mut broken, mut begun): (Vec<Backup>, _, _) = (Vec::new(), None, Vec::new());
    for file in files {
        let Some((_, short)) = file.name.rsplit_once('/') else { continue };
        if let Some(run) = short.strip_suffix(".progress") {
            begun.extend(progress(place, database, &dir, run, &file).await?);
        } else if short.ends_with(".manifest") && broken.is_none() {
            match next(place, database, &dir, short, backups.last()).await {
                Ok(backup) => backups.push(backup),
                Err(Error::Damaged { name, why }) => broken = Some(format!("{name}: {why}")),
                Err(error @ (Error::Refused(_) | Error::Key(_))) => {
                    broken = Some(format!("{}: {error}", file.name));
                    refused.get_or_insert(error);
                }
                Err(error) => return Err(error),
            }
        }
    }
    Ok(Chain { name, backups, broken, begun, runs, dir })
}

/// The next backup of a chain, if it is that.
async fn next(place: &Place, database: &str, dir: &str, short: &str, last: Option<&Backup>) -> Result<Backup> {
    let whole = format!("{dir}/{short}");
    let number = last.map_or(0, |last| last.manifest.number) + 1;
    if short != manifest_name(number) {
        return Err(Error::damaged(&format!("{dir}/{}", manifest_name(number)), "it is not there"));
    }
    let Some(bytes) = place.get(&whole).await? else { return Err(Error::damaged(&whole, "it is not there")) };
    let manifest = Manifest::opened(place, short, &bytes).map_err(|error| match error {
        Error::Damaged { why, .. } => Error::damaged(&whole, why),
        error => error,
    })?;
    if manifest.database != database {
        let of = &manifest.database;
        return Err(Error::damaged(
            &whole,
            format!("it is of the database {of}, and lies where {database} has its own"),
        ));
    }
    let before = last.map(|last| &last.sum);
    let extent = if last.is_none() { Extent::Full } else { Extent::Incremental };
    if manifest.before.as_ref() != before || manifest.number != number || manifest.extent != extent {
        return Err(Error::damaged(&whole, "it does not follow the one before it"));
    }
    Ok(Backup { manifest, sum: Sum::of(&sum_of(&bytes)) })
}

async fn progress(place: &Place, database: &str, dir: &str, run: &str, file: &Found) -> Result<Option<Progress>> {
    let Some(number) = run.split_once('-').and_then(|(number, _)| number.parse().ok()) else { return Ok(None) };
    let Some(bytes) = place.get(&file.name).await? else { return Ok(None) };
    let manifest = match Manifest::opened(place, &format!("{run}.progress"), &bytes) {
        Ok(manifest) => Some(manifest).filter(|manifest| manifest.database == database),
        Err(error) => {
            tracing::warn!(dir, run, %error, "what says how far a cut backup has come does not open: it is not gone on with");
            None
        }
    };
    Ok(Some(Progress { number, run: run.to_owned(), manifest }))
}
