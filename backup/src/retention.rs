//! Owns which chains of backups are kept. Pure.
//!
//! ```text
//!   keep 10     the newest chains that have ten backups together
//!   keep 7d     chains with a backup of the last seven days: any moment of these can be restored
//! ```
//! A chain stays or goes as a whole: each of its backups needs those before it, and those behind it are newer. The newest chain that
//! has a backup stays whatever is said.
//!
//! Each life of a database (store and timeline) is judged by itself, so the newest chain of a former life stays until somebody removes
//! it: a server that began anew with nothing in it must not push out what it had. By time nothing goes when the newest backup and
//! the one before it are further from each other than what is kept, and that is not how far backups are from each other here: then the
//! clock was set, or nothing was backed up for long.

use std::collections::BTreeSet;
use std::str::FromStr;
use std::time::Duration;

/// How much is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Keep {
    /// Everything.
    All,
    /// So many of the newest backups, and what they need.
    Backups(u32),
    /// Those that were made in this last time, and what they need.
    For(Duration),
}

impl FromStr for Keep {
    type Err = String;

    fn from_str(text: &str) -> Result<Keep, String> {
        let wrong = || {
            format!("{text:?} says nothing of what to keep; write a number of backups, a time like 7d or 12h, or all")
        };
        if text == "all" {
            return Ok(Keep::All);
        }
        if let Ok(count) = text.parse::<u32>() {
            return if count == 0 { Err(wrong()) } else { Ok(Keep::Backups(count)) };
        }
        let at = text.find(|letter: char| !letter.is_ascii_digit()).ok_or_else(wrong)?;
        let each = match text[at..].trim() {
            "h" => 3600,
            "d" => 86_400,
            "w" => 604_800,
            _ => return Err(wrong()),
        };
        let count: u64 = text[..at].parse().map_err(|_| wrong())?;
        let seconds = count.checked_mul(each).filter(|seconds| *seconds > 0).ok_or_else(wrong)?;
        Ok(Keep::For(Duration::from_secs(seconds)))
    }
}

/// When each backup of a chain was whole, in milliseconds since 1970, in order.
type Times = Vec<u64>;

/// What is to know of a chain.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Kept {
    /// Of which store and timeline it is.
    pub(crate) life: (u64, u64),
    pub(crate) times: Times,
}

/// The chains that may go, by their places in the list, the oldest first.
pub(crate) fn to_remove(chains: &[Kept], keep: Keep, now_unix_ms: u64) -> Vec<usize> {
    let lives: BTreeSet<(u64, u64)> = chains.iter().map(|chain| chain.life).collect();
    let mut going = Vec::new();
    for life in lives {
        let (places, times): (Vec<usize>, Vec<Times>) = chains
            .iter()
            .enumerate()
            .filter(|(_, chain)| chain.life == life)
            .map(|(place, chain)| (place, chain.times.clone()))
            .unzip();
        going.extend(of_one_life(&times, keep, now_unix_ms).into_iter().map(|at| places[at]));
    }
    going.sort_unstable();
    going
}

/// Whether the clock seems to have been set before the newest backup was made.
fn is_far_from_the_rest(chains: &[Times], time_ms: u64) -> bool {
    let mut newest_first = chains.iter().rev().flat_map(|times| times.iter().rev());
    let (newest, before, third) = (newest_first.next(), newest_first.next(), newest_first.next());
    let between = |a: Option<&u64>, b: Option<&u64>| a.zip(b).map_or(0, |(a, b)| a.abs_diff(*b));
    let (last, usual) = (between(newest, before), between(before, third));
    last > time_ms && last > usual.saturating_mul(2)
}

fn of_one_life(chains: &[Times], keep: Keep, now_unix_ms: u64) -> Vec<usize> {
    if let Keep::For(time) = keep
        && is_far_from_the_rest(chains, u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
    {
        tracing::warn!(
            "the newest backup and the one before it are unusually far from each other: nothing is removed this time; look at the clock"
        );
        return Vec::new();
    }
    let Some(newest) = chains.iter().rposition(|times| !times.is_empty()) else { return Vec::new() };
    let mut newer = 0;
    let mut going = Vec::new();
    for (at, times) in chains.iter().enumerate().take(newest).rev() {
        newer += chains[at + 1].len() as u64;
        let stays = match keep {
            Keep::All => true,
            Keep::Backups(count) => newer < u64::from(count),
            Keep::For(time) => {
                let from = now_unix_ms.saturating_sub(u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
                times.iter().any(|made| *made >= from)
            }
        };
        // What never became a backup is none: it may be on its way, and is looked after elsewhere.
        if !stays && !times.is_empty() {
            going.push(at);
        }
    }
    going.reverse();
    going
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_to_keep_is_written_as_a_number_or_a_time() {
        assert_eq!("10".parse(), Ok(Keep::Backups(10)));
        assert_eq!("7d".parse(), Ok(Keep::For(Duration::from_secs(604_800))));
        assert_eq!("36h".parse(), Ok(Keep::For(Duration::from_secs(129_600))));
        assert_eq!("all".parse(), Ok(Keep::All));
        for wrong in ["", "0", "0d", "d", "-1", "7 years", "99999999999999999999d"] {
            assert!(wrong.parse::<Keep>().is_err(), "{wrong}");
        }
    }

    /// Against a model that says for each backup, one by one, whether it is kept or needed.
    #[test]
    fn the_newest_stays_and_so_does_all_that_a_kept_one_needs() {
        for seed in 0..3000 {
            let mut dice = fastrand::Rng::with_seed(seed);
            let mut now = 1_000;
            let chains: Vec<Times> = (0..dice.usize(0..6))
                .map(|_| {
                    (0..dice.usize(0..5))
                        .map(|_| {
                            now += dice.u64(1..100);
                            now
                        })
                        .collect()
                })
                .collect();
            let now = now + dice.u64(0..200);
            let keep = match dice.u8(0..3) {
                0 => Keep::All,
                1 => Keep::Backups(dice.u32(1..12)),
                _ => Keep::For(Duration::from_millis(dice.u64(1..800))),
            };
            let mut all: Vec<(usize, u64)> = chains
                .iter()
                .enumerate()
                .flat_map(|(chain, times)| times.iter().map(move |made| (chain, *made)))
                .collect();
            all.sort_unstable_by_key(|(_, made)| std::cmp::Reverse(*made));
            let gap = |at: usize| if all.len() > at + 1 { all[at].1 - all[at + 1].1 } else { 0 };
            let set = |time: Duration| gap(0) > time.as_millis() as u64 && gap(0) > 2 * gap(1);
            let wanted = |place: usize, made: u64| match keep {
                Keep::All => true,
                Keep::For(time) if set(time) => true,
                Keep::Backups(count) => place < count as usize,
                Keep::For(time) => made + time.as_millis() as u64 >= now,
            };
            let kept: Vec<usize> = all
                .iter()
                .enumerate()
                .filter(|(place, (_, made))| *place == 0 || wanted(*place, *made))
                .map(|(_, (chain, _))| *chain)
                .collect();
            let expected: Vec<usize> =
                (0..chains.len()).filter(|at| !chains[*at].is_empty() && !kept.contains(at)).collect();
            let kept: Vec<Kept> = chains.iter().map(|times| Kept { life: (1, 1), times: times.clone() }).collect();
            assert_eq!(to_remove(&kept, keep, now), expected, "seed {seed}: {chains:?} {keep:?} {now}");
        }
    }

    const DAY: u64 = 86_400_000;
    const WEEK: Keep = Keep::For(Duration::from_secs(604_800));

    fn daily(life: u64, days: std::ops::Range<u64>) -> Vec<Kept> {
        days.map(|day| Kept { life: (7, life), times: vec![day * DAY] }).collect()
    }

    #[test]
    fn a_former_life_keeps_its_newest_chain() {
        let chains = [daily(1, 100..103), daily(2, 103..140)].concat();
        assert_eq!(to_remove(&chains, Keep::Backups(2), 140 * DAY), [vec![0], (3..38).collect()].concat());
        assert_eq!(to_remove(&chains, WEEK, 140 * DAY), [vec![0, 1], (3..33).collect()].concat());
    }

    #[test]
    fn a_clock_that_is_ahead_removes_nothing() {
        let mut chains = daily(1, 100..120);
        chains.extend(daily(1, 1500..1501));
        assert_eq!(to_remove(&chains, WEEK, 1500 * DAY), Vec::<usize>::new());
        chains.extend(daily(1, 120..121));
        assert_eq!(to_remove(&chains, WEEK, 120 * DAY), (0..13).collect::<Vec<_>>(), "set right again");
        chains.extend(daily(1, 121..122));
        assert_eq!(to_remove(&chains, WEEK, 121 * DAY), (0..14).collect::<Vec<_>>(), "and as ever");
    }

    #[test]
    fn what_is_kept_may_be_shorter_than_it_is_between_two_backups() {
        let half_a_day = Keep::For(Duration::from_secs(43_200));
        assert_eq!(to_remove(&daily(1, 100..105), half_a_day, 104 * DAY), [0, 1, 2, 3]);
    }
}
