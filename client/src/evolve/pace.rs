//! Owns one worker's pace: the size of its chunks, the pauses between them, and the reason for these.

use super::sizing::Sizing;
use super::throttle::{Throttle, Verdict, is_live};
use crate::connect::Db;
use std::time::Duration;
use tokio::time::Instant;
use zeolite_proto::evolve::Settings;

/// The share of the newest measurement in the rate.
const NEWEST: f64 = 0.3;

/// What comes before the next chunk.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Before {
    /// So many objects, after a pause.
    Chunk { objects: usize, pause: Duration },
    /// The operator has to do something first.
    Wait(String),
    /// The job fails.
    Fail(String),
}

#[derive(Debug)]
pub(crate) struct Pace {
    sizing: Option<Sizing>,
    throttle: Throttle,
    begun: Instant,
    /// When the last chunk began, and how many objects it had.
    last: Option<(Instant, usize)>,
    /// Objects a second lately, pauses included.
    pub(crate) rate: f64,
    /// What slows it down; empty: nothing.
    pub(crate) why: String,
}

impl Default for Pace {
    fn default() -> Pace {
        let (sizing, throttle, last, rate, why) = Default::default();
        Pace { sizing, throttle, begun: Instant::now(), last, rate, why }
    }
}

impl Pace {
    /// Decides on the next chunk.
    pub(crate) fn next(&mut self, db: &Db, settings: &Settings) -> Before {
        let (now, pressure) = (self.begun.elapsed(), db.pressure());
        let (rate, why) = match self.throttle.decide(now, settings, pressure.as_ref(), self.rate) {
            Verdict::Go { rate, why } => (rate, why.unwrap_or_default()),
            Verdict::Pause(why) => {
                self.why.clone_from(&why);
                self.last = None;
                return Before::Wait(why);
            }
            Verdict::Stop(why) => return Before::Fail(why),
        };
        self.why = why;
        let sizing = self.sizing.get_or_insert_with(|| Sizing::new(settings));
        let objects = sizing.objects(settings, rate, pressure.as_ref().filter(|pressure| is_live(pressure)));
        let paced = match (rate, self.last) {
            (Some(rate), Some((began, had))) => {
                let next = began + Duration::from_secs_f64((had as f64 / rate.max(1e-9)).min(3600.0));
                next.saturating_duration_since(Instant::now())
            }
            _ => Duration::ZERO,
        };
        let quiet = self.throttle.quiet(now, db.position(), pressure.as_ref()).unwrap_or_default();
        Before::Chunk { objects, pause: paced.max(quiet) }
    }

    /// A chunk of so many objects began then, and is committed now.
    pub(crate) fn done(&mut self, settings: &Settings, began: Instant, objects: usize) {
        let before = self.last.replace((began, objects));
        if let Some(sizing) = &mut self.sizing {
            sizing.took(settings, objects, began.elapsed());
        }
        // From beginning to beginning, so that pauses count.
        if let Some((last, had)) = before {
            let newest = had as f64 / began.saturating_duration_since(last).as_secs_f64().max(1e-6);
            self.rate = if self.rate == 0.0 { newest } else { self.rate * (1.0 - NEWEST) + newest * NEWEST };
        } else {
            self.rate = objects as f64 / began.elapsed().as_secs_f64().max(1e-6);
        }
    }

    /// The server did not take a chunk of so many objects.
    pub(crate) fn too_large(&mut self, objects: usize) {
        if let Some(sizing) = &mut self.sizing {
            sizing.too_large(objects);
        }
    }
}
