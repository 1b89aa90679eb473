//! What the two sides of Zeolite share: ids, records, drafts, faults, limits, resolvers and the wire.
//!
//! ```text
//!   ids      Oid, Tid (a point in time), Cell (oid, key), CommitKey
//!   record   header (class, schema version, references, blobs) + opaque data
//!   blob     the name of bytes too large for a record
//!   draft    a client's uncommitted work; receipt: what a committer gets
//!   revision what reading gives: a revision of a cell, an entry of a collection
//!   note     who made a transaction and why
//!   fault    the closed list of refusals, sorted by remedy
//!   role     what a principal is for
//!   mode, gate, pressure, prepared  who may write, how old a shape may be, what live traffic feels, what waits for its second phase
//!   status, upkeep  what a server says about itself; pack and verification, as far as they are
//!   replication  a database among its copies: seat, term, how far behind
//!   evolve   what an evolve stores: its job and ledger
//!   hash     hash maps with a seed
//!   interest which cells a session may hold, in a few bits
//!   limits   the bound of every message, key, draft, lease and scan
//!   resolver merge(base, theirs, ours) and apply(current, operation)
//!   registry the resolvers by class, and who judges reads and replays drafts
//!   resolvers  the built-in ones
//!   wire     the generated protobuf types and their translation to and from the types above
//! ```
//!
//! What a server answers is made in whole by the server alone (the feature `whole`), so that a field that is forgotten does not compile; for
//! everybody else these types may grow.
//!
//! Nothing here does I/O, reads a clock or rolls dice, but for the seed of the hash maps.

pub mod blob;
pub mod draft;
pub mod evolve;
pub mod fault;
pub mod gate;
pub mod hash;
pub mod hex;
pub mod ids;
pub mod interest;
pub mod limits;
pub mod mode;
pub mod note;
pub mod prepared;
pub mod pressure;
pub mod read_judge;
pub mod record;
pub mod registry;
pub mod replayer;
pub mod replication;
pub mod resolver;
pub mod resolvers;
pub mod revision;
pub mod role;
mod session_info;
pub mod setters;
mod status;
pub mod trace;
pub mod upkeep;
pub mod wire;

pub use blob::{BlobId, BlobStanding};
pub use draft::{Change, Draft, Merged, Priority, ReadCell, ReadRange, Receipt, StaleCell, Write};
pub use fault::{ConflictDetail, Fault, FaultKind, Remedy};
pub use gate::{CloseAttempt, Gate};
pub use ids::{Cell, CommitKey, Oid, Tid};
pub use limits::Limits;
pub use mode::{Mode, ModeEnd, ModeKind};
pub use note::{NOTE_PART_BYTES_MAX, Note};
pub use prepared::PreparedDraft;
pub use pressure::Pressure;
pub use read_judge::{ReadJudge, Records};
pub use record::{BadRecord, Record};
pub use registry::Registry;
pub use replayer::{Replayed, Replayer};
pub use replication::{Behind, FollowerInfo, Promoted, Replication, Seat};
pub use resolver::Resolver;
pub use revision::{Entry, Revision};
pub use role::{Role, TOKEN_PREFIX};
pub use session_info::SessionInfo;
pub use status::{ClassCounts, Kind, Kinds, ResolverInfo, Schedule, Stage, Status};
pub use trace::TraceContext;
pub use upkeep::{PackOptions, PackProgress, Reference, VerifyProgress};
