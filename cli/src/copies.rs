//! Owns how a database among its copies is shown.

use crate::moment;
use crate::output::{Out, count, size};
use zeolite_client::{Behind, FollowerInfo, Replication, Seat, Status};

/// In one line for people.
pub(crate) fn shown(out: &Out, status: &Status) -> String {
    let now = &status.replication;
    let mut text = match now.seat {
        Seat::Primary => primary(now),
        Seat::Follower => {
            let of = if now.primary.is_empty() { "nobody" } else { &now.primary };
            let heard = if now.connected { "" } else { ", which it does not hear" };
            let since =
                if now.behind_ms == 0 { String::new() } else { format!(" for {}", moment::duration(now.behind_ms)) };
            format!("a follower of {of}{heard}; {}{since}", behind(now.behind))
        }
        Seat::Fenced => "fenced".to_owned(),
    };
    if now.term > 0 {
        text += &format!("; term {}", now.term);
    }
    if let Some(problem) = &now.problem {
        text += &format!("; {}", out.verdict(false, problem));
    }
    text
}

fn primary(now: &Replication) -> String {
    let one = |one: &FollowerInfo| match one.connected {
        true => format!("{}, {}", one.name, behind(one.behind)),
        false => format!("{}, gone for {}, {}", one.name, moment::duration(one.seen_ms), behind(one.behind)),
    };
    let mut text = match now.followers.as_slice() {
        [] => "the primary; nobody follows".to_owned(),
        all => format!("the primary of {}", all.iter().map(one).collect::<Vec<_>>().join("; of ")),
    };
    if now.sync > 0 {
        text += &format!("; commits wait for {}", now.sync);
    }
    if now.waiting > 0 {
        text += &format!(", {} do, the oldest for {}", count(now.waiting), moment::duration(now.waiting_ms));
    }
    text
}

fn behind(behind: Behind) -> String {
    match behind {
        Behind { transactions: 0, .. } => "with everything".to_owned(),
        Behind { transactions, more: false, bytes } => {
            format!("{} transactions behind, {}", count(transactions), size(bytes))
        }
        Behind { transactions, more: true, bytes } => {
            format!("{} transactions or more behind, {}", count(transactions), size(bytes))
        }
    }
}
