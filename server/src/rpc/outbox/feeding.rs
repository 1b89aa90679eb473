//! Owns the feed as one session sees it: how far it has taken it, and whether it goes by itself or with an answer.
//!
//! ```text
//!   otherwise            a frame as soon as the session looks         | feed | answer |
//!   feed_with_answers    with the next answer, as one message         | feed+answer |
//!                        by itself when the fan says that it is due   | feed |
//! ```
//!
//! A session that commits would otherwise be sent two messages for each answer, and a third while it waits. So who looks for feed in
//! answers gets it there, and to who has said what it may hold, how far the order has come is put off while an answer is still to come, for
//! a few turns of the fan. What the session may hold is never put off: who reads it again is to find the new one.

use crate::rpc::fan::{Cursor, Due, Fan, Has, Untaken};
use crate::rpc::interest::Place;
use bytes::Bytes;
use std::sync::Arc;
use zeolite_proto::Tid;

/// An answer and the feed before it are one message up to this size.
pub(in crate::rpc) const TOGETHER_BYTES: usize = 32 << 10;

pub(super) struct Feeding {
    fan: Arc<Fan>,
    at: Cursor,
    /// Its column; none: it is told everything.
    place: Option<Place>,
    /// It may go with an answer.
    with_answers: bool,
    /// Everything up to here was sent.
    sent_to: Tid,
    /// It has waited long enough for an answer.
    is_due: bool,
    put_off: u8,
}

/// What of the feed is sent now.
pub(super) enum Fed {
    Alone(Bytes),
    /// With the next answer; empty: nothing.
    With(Bytes),
}

impl Fed {
    pub(super) const NOTHING: Fed = Fed::With(Bytes::new());
}

/// What the fan's turn means for a session.
pub(super) enum Turn {
    /// It has everything, or waits for an answer.
    Stays(Due),
    Wakes(Cursor),
    /// Not any more, because of this limit.
    Gone(&'static str),
}

impl Feeding {
    pub(super) fn new(fan: Arc<Fan>, at: Cursor, place: Option<Place>, after: Tid, with_answers: bool) -> Feeding {
        Feeding { fan, at, place, with_answers, sent_to: after, is_due: false, put_off: 0 }
    }

    pub(super) fn fan(&self) -> &Arc<Fan> {
        &self.fan
    }

    pub(super) fn sent_to(&self) -> Tid {
        self.sent_to
    }

    pub(super) fn untaken(&self) -> Untaken {
        self.fan.untaken(self.at, self.place)
    }

    /// What is to be sent before anything else, the next answer having so many bytes, and whether that is all there is; the error says
    /// by which limit it is gone.
    pub(super) fn next(&mut self, answer: Option<usize>) -> Result<(Fed, bool), &'static str> {
        if self.with_answers && answer.is_none() && !self.is_due {
            return Ok((Fed::NOTHING, true));
        }
        let taking = match self.fan.take(self.at, self.place) {
            Ok(taking) => taking,
            Err(Has::Gone(limit)) => return Err(limit),
            Err(Has::Nothing | Has::More) => return Ok((Fed::NOTHING, true)),
        };
        (self.at, self.sent_to) = (taking.next, self.sent_to.max(taking.whole()));
        (self.is_due, self.put_off) = (!taking.all, 0);
        let bytes = taking.bytes();
        let fits = |answer| taking.all && self.with_answers && answer + bytes.len() <= TOGETHER_BYTES;
        let fed = if answer.is_some_and(fits) { Fed::With(bytes) } else { Fed::Alone(bytes) };
        Ok((fed, taking.all))
    }

    /// The fan has come round; `answers`: requests are not answered yet.
    pub(super) fn turn(&mut self, answers: bool) -> Turn {
        match self.fan.has(self.at) {
            Has::Nothing => Turn::Stays(Due { at: Some(self.at), again: false }),
            Has::Gone(limit) => Turn::Gone(limit),
            Has::More
                if answers && self.put_off < self.fan.put_off_max() && self.fan.is_place_alone(self.at, self.place) =>
            {
                self.put_off += 1;
                Turn::Stays(Due { at: Some(self.at), again: true })
            }
            Has::More => {
                self.is_due = true;
                Turn::Wakes(self.at)
            }
        }
    }
}
