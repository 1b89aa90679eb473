//! Owns the words by which the page steers an evolve. A job is an object that clients write, so the program that keeps the server does it as a
//! client, through the door inside: the rules of jobs have one home.

use futures_util::future::BoxFuture;
use std::sync::Arc;
use zeolite_proto::Fault;

/// What is to become of a job.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Steer {
    /// Its workers finish their chunk and wait.
    Pause {
        /// For whoever looks at it.
        reason: String,
    },
    /// It goes on.
    Resume,
    /// It ends for good; what it did stays, and can be undone.
    Cancel {
        /// For whoever looks at it.
        reason: String,
    },
}

/// Steers the job of a name in a database, for somebody who may.
pub type Steering = Arc<dyn Fn(String, String, Steer) -> BoxFuture<'static, Result<(), Fault>> + Send + Sync>;
