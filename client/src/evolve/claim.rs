//! Owns the claim that a job is done, as it is checked by whoever rests on it: a certificate says what was so at its tid, and old code
//! may have written since, or an operator opened the gate.
//!
//! ```text
//!   done now    the phase; it owes nothing; nothing of the class is below the version, counted by one reply with its tid,
//!               and the gate, if one was asked for, is closed for that version or a higher one
//! ```
//! Whose gate it is does not matter. A job without a target claims nothing but that it was done.

use super::job::{Certificate, Job, Phase};
use super::progress::Progress;
use crate::errors::{Error, Result};

impl Progress {
    /// What keeps it from being done now, in words; empty: it is.
    pub fn missing(&self) -> Vec<String> {
        let (Phase::Done, Some(_)) = (self.job.phase, &self.job.certificate) else {
            return vec![format!("it is {}", self.state())];
        };
        let mut missing = Vec::new();
        if self.owed > 0 {
            let so_many = if self.owed == 1 { "1 write".to_owned() } else { format!("{} writes", self.owed) };
            missing.push(format!("live transactions went over {so_many} of it: run its workers again"));
        }
        let (Some(target), Some(old)) = (&self.job.target, self.old) else { return missing };
        let (class, version) = (&target.class, target.version);
        // What is owed may be among these, and is stepped with it.
        if old > 0 && self.owed == 0 {
            let so_many = if old == 1 { "1 object is".to_owned() } else { format!("{old} objects are") };
            missing.push(format!("{so_many} below version {version} now, written since: plan another evolve for them"));
        }
        let closed = self.gate.as_ref().map_or(0, |gate| gate.min_version);
        if target.gate && closed < version {
            let how = if closed == 0 { "open".to_owned() } else { format!("closed below version {closed} only") };
            missing.push(format!("the gate of class {class:?} is {how}: close it when nothing old is left"));
        }
        missing
    }
}

impl Job {
    /// An error unless it is done, and what it was for is so now: for a deployment that must not begin before.
    pub async fn ensure_done(&self) -> Result<Certificate> {
        let now = self.show().await?;
        let (missing, certificate) = (now.missing(), &now.job.certificate);
        match certificate {
            Some(certificate) if missing.is_empty() => Ok(certificate.clone()),
            _ => Err(Error::invalid(format!("evolve {:?} is not done: {}", self.name(), missing.join("; ")))),
        }
    }
}
