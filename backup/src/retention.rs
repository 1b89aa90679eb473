//! Owns which chains of backups are kept. Pure.
//!
//! ```text
//!   keep 10     the newest chains that have ten backups together
//!   keep 7d     chains with a backup of the last seven days: any moment of these can be restored
//! ```
//! A chain stays or goes as a whole: each of its backups needs those before it, and those behind it are newer. The newest chain that
//! has a backup stays whatever is said.

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
pub(crate) type Times = Vec<u64>;

/// The chains that may go, by their places in the list, the oldest first.
pub(crate) fn to_remove(chains: &[Times], keep: Keep, now_unix_ms: u64) -> Vec<usize> {
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
            let wanted = |place: usize, made: u64| match keep {
                Keep::All => true,
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
            assert_eq!(to_remove(&chains, keep, now), expected, "seed {seed}: {chains:?} {keep:?} {now}");
        }
    }
}
