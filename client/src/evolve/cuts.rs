//! Owns the cutting of very many objects into ranges of about the same number without listing them: a plan of ten million takes no longer than one of
//! fifty thousand.
//!
//! ```text
//!   oids    |. . . .|::::::::|        |::. . . |          cells of one width; in each the first few oids are listed
//!           sparse   dense    empty    a part of it       how close they lie says how many are in the cell, about
//!   a cell that has more than half a range is cut into smaller ones and looked at again: so a cluster is found, however small it is
//! ```
//! How many there are in all is counted by the index, and the greatest oid is searched for; both are exact. Where the ranges are cut, and so how many
//! objects each has, is an *estimate*: it is for sharing the work out and for forecasts, and nothing rests on it. Each range begins where the one
//! before it ends, so each object is in exactly one.

use crate::errors::Result;
use futures_util::future::try_join_all;
use std::collections::VecDeque;

/// Cells at first.
const CELLS: u64 = 256;
/// Smaller cells of one that has too much.
const FINER: u64 = 16;
/// More cells are not looked at.
const CELLS_MAX: usize = 2048;
/// Oids that are listed of a cell.
const LISTED: u32 = 64;
/// Cells that are asked for at once.
const AT_ONCE: usize = 16;

/// Oids greater than `after`, up to `last`, and about how many objects are there.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Cell {
    after: u64,
    last: u64,
    objects: f64,
}

/// Who lists oids.
pub(crate) trait List: Sync {
    /// The first oids behind one, at most so many (at least two), in order.
    fn behind(&self, oid: u64, limit: u32) -> impl Future<Output = Result<Vec<u64>>> + Send;
}

/// The last oid of each range and about how many of the `total` objects it has; at most so many ranges. The first begins behind oid 0, which is the
/// root's and belongs to nobody.
pub(crate) async fn cut(list: &impl List, total: u64, ranges: usize) -> Result<Vec<(u64, u64)>> {
    let last = last(list).await?;
    if ranges <= 1 {
        return Ok(vec![(last, total)]);
    }
    let mut cells = Vec::new();
    let mut rough: VecDeque<Cell> = looked_at(list, parts(0, last, CELLS)).await?.into();
    let (mut looks, most) = (rough.len(), total as f64 / (2.0 * ranges as f64));
    while let Some(cell) = rough.pop_front() {
        if cell.objects <= most || cell.last - cell.after <= u64::from(LISTED) || looks >= CELLS_MAX {
            cells.push(cell);
        } else {
            let finer = looked_at(list, parts(cell.after, cell.last, FINER)).await?;
            looks += finer.len();
            rough.extend(finer);
        }
    }
    cells.sort_unstable_by_key(|cell| cell.after);
    Ok(shared_out(&cells, last, total, ranges))
}

fn sum(cells: &[Cell]) -> f64 {
    cells.iter().map(|cell| cell.objects).sum()
}

/// The greatest oid: there is something behind `there`, and nothing behind `none`.
async fn last(list: &impl List) -> Result<u64> {
    let (mut there, mut none) = (0, u64::MAX);
    while none - there > 1 {
        let middle = there + (none - there) / 2;
        match list.behind(middle, 2).await?.last() {
            Some(last) => there = *last,
            None => none = middle,
        }
    }
    Ok(there)
}

/// Equal parts of a span, fewer if it is short.
fn parts(after: u64, last: u64, count: u64) -> Vec<(u64, u64)> {
    let span = u128::from(last - after);
    let end = |part: u64| after + (span * u128::from(part) / u128::from(count)) as u64;
    (0..count).map(|part| (end(part), end(part + 1))).filter(|(after, last)| after < last).collect()
}

async fn looked_at(list: &impl List, spans: Vec<(u64, u64)>) -> Result<Vec<Cell>> {
    let mut cells = Vec::with_capacity(spans.len());
    for some in spans.chunks(AT_ONCE) {
        cells.extend(try_join_all(some.iter().map(|(after, last)| look(list, *after, *last))).await?);
    }
    Ok(cells)
}

async fn look(list: &impl List, after: u64, last: u64) -> Result<Cell> {
    let oids = list.behind(after, LISTED).await?;
    let inside = oids.iter().take_while(|oid| **oid <= last).count();
    let objects = match (oids.first(), oids.last()) {
        // All of them are inside, and more may be behind, as close: too many are guessed where a cluster begins, and looked at again.
        (Some(first), Some(end)) if *end < last && inside >= LISTED as usize => {
            (inside - 1) as f64 * (last - first) as f64 / (end - first) as f64
        }
        _ => inside as f64,
    };
    Ok(Cell { after, last, objects })
}

fn shared_out(cells: &[Cell], last: u64, total: u64, ranges: usize) -> Vec<(u64, u64)> {
    let (all, ranges) = (sum(cells).max(1.0), ranges.max(1) as u64);
    let (mut out, mut before, mut at): (Vec<(u64, u64)>, f64, usize) = (Vec::new(), 0.0, 0);
    let share = |range: u64| total * range / ranges;
    let mut told = 0;
    for range in 1..ranges {
        let wanted = all * range as f64 / ranges as f64;
        while let Some(cell) = cells.get(at).filter(|cell| before + cell.objects < wanted) {
            before += cell.objects;
            at += 1;
        }
        let Some(cell) = cells.get(at) else { break };
        let part = (wanted - before) / cell.objects.max(1.0);
        let end = cell.after + ((cell.last - cell.after) as f64 * part.clamp(0.0, 1.0)) as u64;
        if end > out.last().map_or(0, |(end, _)| *end) && end < last {
            out.push((end, share(range) - told));
            told = share(range);
        }
    }
    out.push((last, total - told));
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::sync::atomic::{AtomicUsize, Ordering};

    struct There<'a>(&'a BTreeSet<u64>, AtomicUsize);

    impl List for There<'_> {
        async fn behind(&self, oid: u64, limit: u32) -> Result<Vec<u64>> {
            self.1.fetch_add(1, Ordering::Relaxed);
            Ok(self.0.range(oid.saturating_add(1)..).take(limit as usize).copied().collect())
        }
    }

    async fn ranges_of(oids: &BTreeSet<u64>, ranges: usize) -> (Vec<(u64, u64)>, usize) {
        let there = There(oids, AtomicUsize::new(0));
        let cuts = cut(&there, oids.len() as u64, ranges).await.expect("lists");
        (cuts, there.1.into_inner())
    }

    #[tokio::test]
    async fn wherever_the_objects_lie_the_ranges_hold_all_of_them_and_none_holds_much_more_than_its_share() {
        let mut dice = fastrand::Rng::with_seed(5);
        let mut random =
            |count: usize, from: u64, to: u64| -> BTreeSet<u64> { (0..count).map(|_| dice.u64(from..to)).collect() };
        let worlds: Vec<(&str, BTreeSet<u64>)> = vec![
            ("dense", (1000..101_000).collect()),
            ("every seventh", (0..100_000).map(|n| 5 + n * 7).collect()),
            ("anywhere", random(100_000, 1, u64::MAX - 1)),
            ("one far away", (1..100_000).chain([u64::MAX - 2]).collect()),
            ("two clusters", (1..50_000).chain((1 << 50)..(1 << 50) + 50_000).collect()),
            ("dense then sparse", (1..80_000).chain((0..20_000).map(|n| 80_000 + n * 1000)).collect()),
            ("a few", random(10, 1, 1 << 40)),
            ("none", BTreeSet::new()),
        ];
        for (name, oids) in worlds {
            for ranges in [1, 4, 16] {
                let (cuts, asked) = ranges_of(&oids, ranges).await;
                assert!(asked <= CELLS_MAX + 200, "{name}: {asked} lists");
                assert!(cuts.len() <= ranges, "{name}: {cuts:?}");
                assert_eq!(cuts.iter().map(|(_, objects)| objects).sum::<u64>(), oids.len() as u64, "{name}");
                assert!(cuts.is_sorted_by(|a, b| a.0 < b.0), "{name}: {cuts:?}");
                assert_eq!(cuts.last().map(|(last, _)| *last), Some(oids.last().copied().unwrap_or(0)), "{name}");
                let mut after = 0;
                for (last, about) in cuts {
                    let objects = oids.range(after + 1..=last).count() as u64;
                    let fair = oids.len() as u64 / ranges as u64;
                    assert!(
                        oids.len() < 100 || objects.abs_diff(about) <= fair / 4 + 64,
                        "{name}, {ranges}: {objects} for {about}"
                    );
                    after = last;
                }
            }
        }
    }
}
