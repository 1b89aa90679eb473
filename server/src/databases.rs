//! Owns the databases of a server, by name: each with its own store, engine, loops and limits.
//!
//! ```text
//!   "main"  ──> Database { engine } ──> its own data directory, sequencer, writer, settle loop, keeper
//!   "shop"  ──> Database { engine }
//! ```
//! A client names one in its hello or metadata; who names none means `main`. What is of the whole machine is shared: the
//! listener, the runtime, the pool of long calls, the memory for drafts in parts, the number of sessions.
//!
//! A database that has met a bug (a panic in one of its loops) is poisoned, and the others go on; the last one takes the
//! process with it, so that whoever watches over it starts it anew. One whose store cannot be opened is down until the next start,
//! and the others serve; without `main` there is no server.
//!
//! ```text
//!   is being opened (told with how far it is, `BUSY`) ──> open, or down for good
//! ```
//! Opening may take minutes: an index is made anew, or much of the log replayed. The server listens meanwhile, so that whoever asks
//! is told what it does. A few are opened at once, each on a thread of its own, `main` first.

mod course;

use crate::clock::Clock;
use crate::engine::{Engine, Leaving, Running};
use crate::settings::DatabasePlan;
use crate::store::disk::Disk;
use crate::store::{Opening, Progress, StoreError};
use course::Course;
use parking_lot::Mutex;
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use zeolite_proto::{Fault, FaultKind, Limits, Registry};

/// The database of those who name none.
pub(crate) const MAIN: &str = "main";

/// So many are opened at once.
const OPENED_AT_ONCE: usize = 4;

/// One database that is open.
pub(crate) struct Database {
    name: Arc<str>,
    engine: Arc<Engine>,
}

impl Database {
    /// What clients call it.
    pub(crate) fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Its engine.
    pub(crate) fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }
}

/// All databases of a server.
pub(crate) struct Databases {
    by_name: BTreeMap<Arc<str>, Place>,
    clock: Arc<dyn Clock>,
    running: Mutex<Vec<(Arc<str>, Running)>>,
    is_ending: AtomicBool,
}

/// What a database is to be, and how far it is.
struct Place {
    limits: Limits,
    course: Course,
    /// Once that is known: open, or why it cannot be.
    opened: OnceLock<Result<Arc<Database>, Fault>>,
}

/// What every database is opened with.
pub(crate) struct Shared {
    pub(crate) registry: Registry,
    /// The number of `main`; those of the others follow it.
    pub(crate) opening: Opening,
    /// Which store a database is to be a copy of.
    pub(crate) copies: Option<CopyOf>,
    pub(crate) progress: Box<dyn FnMut(Progress) + Send>,
}

/// Says of which store a database is to be made a copy, if it has none; waits until that is known, and tells why meanwhile.
pub type CopyOf = Box<dyn Fn(&str, &dyn Fn(String)) -> Option<u64> + Send + Sync>;

/// What a database is to be, and its disk, or why there is none.
pub(crate) type OnDisk = (DatabasePlan, Result<Arc<dyn Disk>, StoreError>);

impl Databases {
    /// None of them is open yet.
    pub(crate) fn new(plans: &[DatabasePlan], clock: Arc<dyn Clock>) -> Databases {
        let place = |plan: &DatabasePlan| {
            let course = Course::new(&plan.name, clock.clone());
            let place = Place { limits: plan.limits.clone(), course, opened: OnceLock::new() };
            (Arc::from(plan.name.as_str()), place)
        };
        let by_name = plans.iter().map(place).collect();
        Databases { by_name, clock, running: Mutex::default(), is_ending: AtomicBool::new(false) }
    }

    /// Opens them, `main` first, and tells of each when it is open or down. One that cannot be opened is down; if it is `main`, that is
    /// the end of it.
    pub(crate) fn open(
        &self,
        plans: Vec<OnDisk>,
        shared: Shared,
        opened: impl Fn(&Arc<str>, &Result<Arc<Database>, Fault>) + Sync,
    ) -> Result<(), StoreError> {
        let Shared { registry, opening, copies, progress } = shared;
        let living = Arc::new(AtomicUsize::new(plans.len()));
        let at_once = OPENED_AT_ONCE.min(plans.len());
        let waiting: Mutex<VecDeque<(usize, OnDisk)>> = Mutex::new(plans.into_iter().enumerate().collect());
        let (progress, of_main) = (Mutex::new(progress), Mutex::new(Ok(())));
        let open_one = |(at, (plan, disk)): (usize, OnDisk)| {
            let DatabasePlan { name, store, engine, limits } = plan;
            let Some((name, place)) = self.by_name.get_key_value(name.as_str()) else { return };
            // Two databases have different ids, pins and keys of their own.
            let store_id = copies.as_ref().and_then(|copy_of| copy_of(name, &|why| place.course.waits(why)));
            let opening = Opening { new_id: opening.new_id.wrapping_add(at as u64), store_id, ..opening };
            let mut told = |step: Progress| {
                place.course.reached(step);
                progress.lock()(step);
            };
            let made = disk.and_then(|disk| {
                let (clock, registry) = (self.clock.clone(), registry.clone());
                Engine::open(disk, clock, store, engine, limits, registry, opening, &mut told)
            });
            let made = match made {
                Ok((engine, loops)) => {
                    let (of, left) = (name.clone(), living.clone());
                    self.running.lock().push((name.clone(), loops.spawn(move |what| died(&of, what, &left))));
                    Ok(Arc::new(Database { name: name.clone(), engine }))
                }
                Err(error) => {
                    tracing::error!(database = &**name, %error, "cannot be opened; it is down");
                    living.fetch_sub(1, Ordering::AcqRel);
                    let fault = is_down(name, &error);
                    if **name == *MAIN {
                        *of_main.lock() = Err(error);
                        self.is_ending.store(true, Ordering::SeqCst);
                    }
                    Err(fault)
                }
            };
            let made = place.opened.get_or_init(|| made);
            // Whoever ends them has not seen this one, or this sees that they are ended.
            if let (Ok(database), true) = (made, self.is_ending.load(Ordering::SeqCst)) {
                database.engine.shut_down();
            }
            opened(name, made);
        };
        let work = || {
            while !self.is_ending.load(Ordering::SeqCst) {
                // Not locked while it is opened.
                let next = waiting.lock().pop_front();
                let Some(next) = next else { return };
                open_one(next);
            }
        };
        std::thread::scope(|threads| {
            for _ in 1..at_once {
                threads.spawn(work);
            }
            work();
        });
        of_main.into_inner()
    }

    /// The database of this name; empty: `main`.
    pub(crate) fn find(&self, name: &str) -> Result<&Arc<Database>, Fault> {
        let name = if name.is_empty() { MAIN } else { name };
        match self.by_name.get(name) {
            Some(place) => {
                place.opened.get().map_or_else(|| Err(place.course.fault()), |it| it.as_ref().map_err(Fault::clone))
            }
            None => {
                let known: Vec<&str> = self.by_name.keys().map(AsRef::as_ref).collect();
                let shown: String = name.chars().take(64).collect();
                let message = format!("there is no database {shown:?} here; this server has {}", known.join(", "));
                Err(Fault::new(FaultKind::NotFound, message))
            }
        }
    }

    /// The names of all of them.
    pub(crate) fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.by_name.keys()
    }

    /// All that are open, in the order of their names.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<Database>> {
        self.by_name.values().filter_map(|place| place.opened.get()?.as_ref().ok())
    }

    /// Why some do not serve: the first that could not be opened, or else the first that is being opened.
    pub(crate) fn not_open(&self) -> Option<Fault> {
        let down = self.by_name.values().find_map(|place| place.opened.get()?.as_ref().err().cloned());
        let opening = || self.by_name.values().find(|place| place.opened.get().is_none());
        down.or_else(|| opening().map(|place| place.course.fault()))
    }

    /// How far the opening of one is; `None`: it is open, or down, or not known.
    pub(crate) fn opening(&self, name: &str) -> Option<Progress> {
        let place = self.by_name.get(name).filter(|place| place.opened.get().is_none())?;
        Some(place.course.now())
    }

    /// The limits of all of them, also of those that are not open.
    pub(crate) fn limits(&self) -> impl Iterator<Item = &Limits> {
        self.by_name.values().map(|place| &place.limits)
    }

    /// The largest message that any of them takes: the transport's bound, which is there before a database is named.
    pub(crate) fn message_bytes_max(&self) -> usize {
        self.limits().map(|limits| limits.message_bytes_max).max().unwrap_or(0)
    }

    /// New drafts are refused from now on; what was admitted is finished. None is opened any more.
    pub(crate) fn shut_down(&self) {
        self.is_ending.store(true, Ordering::SeqCst);
        self.all().for_each(|database| database.engine.shut_down());
    }

    /// Waits until all loops have ended and closes the stores; the first error is told, and no store is left out for it.
    pub(crate) fn join(&self, leaving: Leaving) -> Result<(), StoreError> {
        let mut first = Ok(());
        for (name, running) in std::mem::take(&mut *self.running.lock()) {
            if let Err(error) = running.join(leaving) {
                tracing::error!(database = &*name, %error, "the store did not close well");
                first = first.and(Err(error));
            }
        }
        first
    }
}

fn is_down(name: &str, error: &StoreError) -> Fault {
    let message = format!("the database {name} could not be opened: {error}; mend that, then start the server again");
    Fault::new(FaultKind::Poisoned, message)
}

fn died(database: &str, what: &str, living: &AtomicUsize) {
    tracing::error!(
        database,
        what,
        "a loop of the engine has panicked, which is a bug: report it; the database is poisoned"
    );
    if living.fetch_sub(1, Ordering::AcqRel) == 1 {
        tracing::error!("no database is left: the process ends; what was acknowledged is on the disk");
        std::process::abort()
    }
}
