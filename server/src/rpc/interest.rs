//! Owns which sessions of a database may hold a cell: so that who holds nothing of a commit is told nothing of it, of a large one each
//! only his cells (its writer all of it), and an import of new objects is told to nobody else.
//!
//! Each session has a column of a Bloom filter (`zeolite_proto::interest`), 64 of them a table, so that a cell is looked up for 64
//! sessions at once:
//!
//! ```text
//!                sessions 63 ......... 2 1 0
//!   row h1(cell)          0  . . . . . 1 0 1   &
//!   row h2(cell)          0  . . . . . 1 1 0   =  100: session 2 may hold it
//! ```
//!
//! **There is no third case.** A session notes a cell before it looks at what is visible, and notes nothing while a batch is on its way from
//! being looked up here to being visible (`engine::reads::feed`). So a commit was visible when the cell was noted, and the read that
//! follows sees it, or it is looked up later, and is told. A draft notes what it writes before it is put in order.
//!
//! A cell whose rows are set already takes no lock: whoever set them did that between two batches. A batch that came before is visible to
//! whoever sees the rows, one that comes later finds them; also where two other cells have set them, one each.
//!
//! A table grows with the cells of the fullest of its sessions, while nothing is pushed. In the largest one, a session of which more
//! than half of the rows are set is told everything. A session that is over frees its column, which is cleared first, and with its
//! last session a table goes. Most memory: 10.3 MiB for 64 sessions.

use crate::engine::FeedItem;
use crate::engine::feed::Feed;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use zeolite_proto::interest::{self, Rows, SIZES};
use zeolite_proto::{Cell, Oid, Tid};

/// Sessions of one table.
const COLUMNS: usize = u64::BITS as usize;

/// A batch of more cells is told each session by cells; of a smaller one whoever may hold any of it is told all.
const TOLD_WHOLE_CELLS: usize = 64;

/// The columns of the sessions of one database.
#[derive(Default)]
pub(super) struct Interests {
    tables: Mutex<Vec<Weak<Table>>>,
}

/// Where a session's column is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Place {
    pub(super) table: usize,
    pub(super) bit: u64,
}

/// So many are noted while the writer waits.
const NOTED_AT_ONCE: usize = 4096;

/// What a session may hold; its column is free again when this goes.
pub(super) struct Interest {
    feed: Arc<Feed>,
    column: Column,
}

struct Column {
    table: Arc<Table>,
    number: usize,
}

struct Table {
    /// Which of the tables of its database.
    at: usize,
    sizes: [OnceLock<Box<[AtomicU64]>>; SIZES.len()],
    size: AtomicUsize,
    /// The columns that are somebody's. Locked while one is cleared, and while it grows.
    taken: Mutex<u64>,
    /// Those that are told.
    listening: AtomicU64,
    /// Those that are told everything.
    everything: AtomicU64,
    fill: [Fill; COLUMNS],
}

/// How full a column is.
#[derive(Default)]
struct Fill {
    cells: AtomicU32,
    set: AtomicU32,
}

/// Who is told what of a batch; masks are by table.
#[derive(Default)]
pub(super) struct Concern {
    /// Who may hold a cell of it, or is told everything.
    pub(super) who: Box<[u64]>,
    /// Who is told all of it.
    pub(super) everything: Box<[u64]>,
    /// Of a large one, the cells that somebody may hold.
    pub(super) held: Option<Vec<HeldCell>>,
}

/// A cell that some sessions may hold.
pub(super) struct HeldCell {
    pub(super) tid: Tid,
    pub(super) cell: Cell,
    pub(super) who: Box<[u64]>,
}

impl Interests {
    /// A column for a session that holds this.
    pub(super) fn begin(&self, feed: Arc<Feed>, held: Option<&Rows>) -> Interest {
        let interest = Interest { feed, column: self.column() };
        if let Some(rows) = held {
            interest.hold(rows);
        }
        interest
    }

    fn column(&self) -> Column {
        let mut tables = self.tables.lock();
        for table in tables.iter().filter_map(Weak::upgrade) {
            if let Some(number) = table.take() {
                return Column { table, number };
            }
        }
        let at = tables.iter().position(|table| table.strong_count() == 0).unwrap_or(tables.len());
        let table = Arc::new(Table::new(at));
        let number = table.take().unwrap_or_default();
        match tables.get_mut(at) {
            Some(gone) => *gone = Arc::downgrade(&table),
            None => tables.push(Arc::downgrade(&table)),
        }
        Column { table, number }
    }

    /// Who is told what of these commits. Nothing is noted meanwhile.
    pub(super) fn of(&self, items: &[FeedItem]) -> Concern {
        let tables: Vec<Option<Arc<Table>>> = self.tables.lock().iter().map(Weak::upgrade).collect();
        let looks: Vec<Option<Look<'_>>> = tables.iter().map(|table| table.as_ref()?.look()).collect();
        let everything = looks.iter().map(|look| look.as_ref().map_or(0, |look| look.everything)).collect();
        let mut concern = Concern { everything, who: vec![0; looks.len()].into(), held: None };
        if looks.iter().flatten().all(|look| look.by_cells == 0) {
            concern.who.clone_from(&concern.everything);
            return concern;
        }
        let cells = items.iter().map(|item| item.cells.len()).sum::<usize>();
        let (mut masks, mut entries) = (Vec::with_capacity(cells * looks.len()), Entries::default());
        for cell in items.iter().flat_map(|item| item.cells.iter()) {
            let hashes = [Some(interest::hash(cell)), entries.of(cell)];
            let by_look = |look: &Look<'_>| hashes.iter().flatten().fold(0, |who, hash| who | look.who(*hash));
            masks.extend(looks.iter().map(|look| look.as_ref().map_or(0, by_look)));
        }
        for who in masks.chunks(looks.len().max(1)) {
            concern.who.iter_mut().zip(who).for_each(|(all, who)| *all |= who);
        }
        if cells > TOLD_WHOLE_CELLS {
            concern.tell_whole(&masks, cells);
            concern.held = Some(concern.parts(items, &masks));
        }
        concern.who.iter_mut().zip(&concern.everything).for_each(|(who, everything)| *who |= everything);
        concern
    }
}

impl Concern {
    /// Who may hold more than half of it is told all of it, as whoever has written it.
    fn tell_whole(&mut self, masks: &[u64], cells: usize) {
        let mut counts = vec![[0u32; COLUMNS]; self.who.len()];
        for (place, mask) in masks.iter().enumerate() {
            let (table, mut left) = (place % self.who.len(), *mask);
            while left != 0 {
                counts[table][left.trailing_zeros() as usize] += 1;
                left &= left - 1;
            }
        }
        for (everything, counts) in self.everything.iter_mut().zip(&counts) {
            let whole = (0..COLUMNS).filter(|column| counts[*column] as usize > cells / 2);
            *everything |= whole.fold(0, |mask, column| mask | 1 << column);
        }
    }

    /// The cells that others may hold.
    fn parts(&self, items: &[FeedItem], masks: &[u64]) -> Vec<HeldCell> {
        let cells = items.iter().flat_map(|item| item.cells.iter().map(|cell| (item.tid, cell)));
        let mut held = Vec::new();
        for ((tid, cell), who) in cells.zip(masks.chunks(self.who.len().max(1))) {
            let others = || who.iter().zip(&self.everything).map(|(who, everything)| who & !everything);
            if others().any(|who| who != 0) {
                held.push(HeldCell { tid, cell: cell.clone(), who: others().collect() });
            }
        }
        held
    }
}

/// The hash for all entries of a collection; one commit mostly writes several of them.
#[derive(Default)]
struct Entries(Option<(Oid, u64)>);

impl Entries {
    /// None: it is no entry.
    fn of(&mut self, cell: &Cell) -> Option<u64> {
        if cell.key.is_empty() {
            return None;
        }
        let (_, hash) = self
            .0
            .take_if(|(of, _)| *of == cell.oid)
            .unwrap_or_else(|| (cell.oid, interest::hash(&interest::entries_of(cell.oid))));
        self.0 = Some((cell.oid, hash));
        Some(hash)
    }
}

impl Interest {
    /// From here on the session is told of these cells. What it reads of them is looked up behind this.
    pub(super) fn note<'c>(&self, cells: impl Iterator<Item = &'c Cell>) {
        if self.is_everything() {
            return;
        }
        let new: Vec<u64> = cells.map(interest::hash).filter(|hash| !self.column.has(*hash)).collect();
        if new.is_empty() {
            return;
        }
        let mut crowded = false;
        for some in new.chunks(NOTED_AT_ONCE) {
            self.feed.between(|| {
                crowded = some.iter().fold(crowded, |crowded, hash| self.column.set(*hash) | crowded);
            });
        }
        if crowded {
            self.grow_to(self.column.table.size.load(Ordering::Acquire) + 1);
        }
    }

    /// From here on the session is told everything.
    pub(super) fn everything(&self) {
        self.feed.between(|| self.column.be_told_everything());
    }

    /// Whether it is.
    pub(super) fn is_everything(&self) -> bool {
        self.column.is_told_everything()
    }

    /// What its client holds since earlier sessions. It is not told yet.
    fn hold(&self, rows: &Rows) {
        let least = SIZES.iter().position(|size| *size >= rows.rows_log2()).unwrap_or(SIZES.len() - 1);
        self.grow_to(least);
        self.feed.between(|| self.column.hold(rows));
    }

    fn grow_to(&self, size: usize) {
        let table = &self.column.table;
        let larger: Box<[AtomicU64]> = match SIZES.get(size) {
            Some(_) if table.size.load(Ordering::Acquire) < size => empty(size),
            _ => return,
        };
        // As one who joins: nothing is pushed, and nobody notes anything.
        self.feed.join(|_| {
            table.grow(size, larger);
            None
        });
    }

    /// The session is told from here on. Nothing is pushed meanwhile.
    pub(super) fn listens(&self) -> Place {
        let place = self.column.place();
        self.column.table.listening.fetch_or(place.bit, Ordering::AcqRel);
        place
    }

    /// It is told no more.
    pub(super) fn leaves(&self) {
        self.column.table.listening.fetch_and(!self.column.place().bit, Ordering::AcqRel);
    }
}

impl Drop for Column {
    fn drop(&mut self) {
        self.table.listening.fetch_and(!self.place().bit, Ordering::AcqRel);
        self.table.free(self.number);
    }
}

impl Column {
    fn place(&self) -> Place {
        Place { table: self.table.at, bit: 1 << self.number }
    }

    fn is_told_everything(&self) -> bool {
        self.table.everything.load(Ordering::Acquire) & self.place().bit != 0
    }

    fn be_told_everything(&self) {
        self.table.everything.fetch_or(self.place().bit, Ordering::AcqRel);
    }

    fn has(&self, hash: u64) -> bool {
        let (rows, size) = self.table.rows();
        let bit = self.place().bit;
        self.is_told_everything()
            || interest::rows(hash, size).iter().all(|row| rows[*row].load(Ordering::Acquire) & bit != 0)
    }

    /// Notes a cell, between two batches; whether the table is to grow.
    fn set(&self, hash: u64) -> bool {
        let (rows, size) = self.table.rows();
        let Fill { cells, set } = &self.table.fill[self.number];
        let bit = self.place().bit;
        let new = |row: &usize| rows[*row].fetch_or(bit, Ordering::AcqRel) & bit == 0;
        let new = interest::rows(hash, size).iter().filter(|row| new(row)).count() as u32;
        let set = set.fetch_add(new, Ordering::Relaxed) + new;
        let cells = cells.fetch_add(u32::from(new > 0), Ordering::Relaxed) + u32::from(new > 0);
        if interest::is_too_full(set) {
            self.be_told_everything();
        }
        cells > interest::cells_max(size) && size < SIZES[SIZES.len() - 1]
    }

    fn hold(&self, told: &Rows) {
        let (rows, size) = self.table.rows();
        let (bit, apart) = (self.place().bit, 1usize << told.rows_log2());
        let mut set = 0;
        for row in told.set() {
            // A row of a smaller filter is each of these of the larger one.
            for row in (row..1 << size).step_by(apart) {
                set += u32::from(rows[row].fetch_or(bit, Ordering::AcqRel) & bit == 0);
            }
        }
        let fill = &self.table.fill[self.number];
        fill.set.fetch_add(set, Ordering::Relaxed);
        fill.cells.fetch_add(told.cells().min(1 << told.rows_log2()), Ordering::Relaxed);
        if interest::is_too_full(fill.set.load(Ordering::Relaxed)) {
            self.be_told_everything();
        }
    }
}

/// A table while a batch is looked up.
struct Look<'t> {
    rows: &'t [AtomicU64],
    size: u32,
    /// Whose cells count.
    by_cells: u64,
    everything: u64,
}

impl Look<'_> {
    fn who(&self, hash: u64) -> u64 {
        let [one, other] = interest::rows(hash, self.size).map(|row| self.rows[row].load(Ordering::Acquire));
        one & other & self.by_cells
    }
}

impl Table {
    fn new(at: usize) -> Table {
        let sizes: [OnceLock<_>; SIZES.len()] = Default::default();
        sizes[0].get_or_init(|| empty(0));
        Table {
            at,
            sizes,
            size: AtomicUsize::new(0),
            taken: Mutex::new(0),
            listening: AtomicU64::new(0),
            everything: AtomicU64::new(0),
            fill: std::array::from_fn(|_| Fill::default()),
        }
    }

    /// Its rows now, and how many, as a power of two.
    fn rows(&self) -> (&[AtomicU64], u32) {
        let size = self.size.load(Ordering::Acquire);
        (self.sizes[size].get_or_init(|| empty(size)), SIZES[size])
    }

    /// None: nobody listens.
    fn look(&self) -> Option<Look<'_>> {
        let listening = self.listening.load(Ordering::Acquire);
        let everything = self.everything.load(Ordering::Acquire) & listening;
        let (rows, size) = self.rows();
        (listening != 0).then_some(Look { rows, size, by_cells: listening & !everything, everything })
    }

    fn take(&self) -> Option<usize> {
        let mut taken = self.taken.lock();
        let number = taken.trailing_ones() as usize;
        (number < COLUMNS).then(|| {
            *taken |= 1 << number;
            number
        })
    }

    /// Clears a column, which nobody notes anything in any more.
    fn free(&self, number: usize) {
        let (mut taken, bit) = (self.taken.lock(), 1u64 << number);
        *taken &= !bit;
        let (rows, _) = self.rows();
        rows.iter().for_each(|row| {
            if row.load(Ordering::Relaxed) & bit != 0 {
                row.fetch_and(!bit, Ordering::AcqRel);
            }
        });
        self.everything.fetch_and(!bit, Ordering::AcqRel);
        self.fill[number].cells.store(0, Ordering::Relaxed);
        self.fill[number].set.store(0, Ordering::Relaxed);
    }

    /// Lays it behind itself, as often as fits, in a larger one.
    fn grow(&self, size: usize, larger: Box<[AtomicU64]>) {
        let _no_column_is_cleared = self.taken.lock();
        let now = self.size.load(Ordering::Acquire);
        if now >= size {
            return;
        }
        let (rows, _) = self.rows();
        let times = larger.len() / rows.len();
        for (row, word) in rows.iter().enumerate() {
            let word = word.load(Ordering::Acquire);
            if word != 0 {
                larger.iter().skip(row).step_by(rows.len()).for_each(|to| to.store(word, Ordering::Release));
            }
        }
        self.sizes[size].get_or_init(|| larger);
        for fill in &self.fill {
            let set = fill.set.load(Ordering::Relaxed);
            fill.set.store(set.saturating_mul(times as u32), Ordering::Relaxed);
        }
        self.size.store(size, Ordering::Release);
    }
}

fn empty(size: usize) -> Box<[AtomicU64]> {
    std::iter::repeat_with(AtomicU64::default).take(1 << SIZES[size]).collect()
}

#[cfg(test)]
mod tests;
