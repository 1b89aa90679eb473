//! Owns the stream of a follower: what a primary's log has behind what is on the follower's disk, and back what is there now.
//!
//! The log comes as bytes, which nobody here looks into: the follower's server decodes them.

use super::unary::{Unary, failure};
use super::{Failure, v2};
use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use zeolite_proto::{Behind, Promoted, Replication, Tid};

/// What a follower may say before the transport takes it; more is not needed, since the newest counts.
const WORDS_AHEAD: usize = 4;

/// What a follower says first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FollowHello {
    /// Which copy it is.
    pub follower: [u8; 16],
    /// What it calls itself.
    pub name: String,
    /// 0: it has nothing.
    pub store_id: u64,
    /// The life of the store.
    pub timeline: u64,
    /// Everything up to here is on its disk.
    pub have: Tid,
    /// The newest term that it knows.
    pub term: u64,
    /// History is packed up to here where its copy began.
    pub packed_said: Tid,
    /// Of its process.
    pub life: u64,
}

/// What the primary answers.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FollowWelcome {
    /// Of which store it is.
    pub store_id: u64,
    /// In which life.
    pub timeline: u64,
    /// Of which term.
    pub term: u64,
    /// What the follower has up to here the primary has too.
    pub shared_to: Tid,
    /// Another server follows as the same copy, under this name; empty: none does.
    pub twice: String,
}

/// How following begins.
#[derive(Debug)]
#[non_exhaustive]
pub struct FollowBegun {
    /// What the primary answers.
    pub welcome: FollowWelcome,
    /// Its log.
    pub followed: Followed,
}

/// A part of the primary's log, or a sign of life.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct FollowPage {
    /// Encoded transactions; empty: none.
    pub log: Bytes,
    /// The newest transaction on the primary's disk.
    pub newest: Tid,
    /// How far behind the follower was when it last said what it has; `None`: not told with this one.
    pub behind: Option<Behind>,
    /// The primary's history is packed up to here; 0: not told with this one.
    pub packed_to: Tid,
}

/// A stream of the log.
#[derive(Debug)]
pub struct Followed {
    pages: Streaming<v2::FollowPage>,
    words: mpsc::Sender<v2::FollowRequest>,
}

/// Tells a primary what is on the disk.
#[derive(Clone, Debug)]
pub struct FollowWords(mpsc::Sender<v2::FollowRequest>);

impl FollowWords {
    /// Everything up to here is; false: the stream is over.
    pub async fn have(&self, tid: Tid) -> bool {
        self.0.send(v2::FollowRequest { have: tid.0, ..v2::FollowRequest::default() }).await.is_ok()
    }
}

impl Followed {
    /// For whoever tells what is on the disk.
    pub fn words(&self) -> FollowWords {
        FollowWords(self.words.clone())
    }

    pub(crate) async fn next(&mut self) -> Result<Option<FollowPage>, Failure> {
        let page = self.pages.message().await.map_err(|status| failure(&status))?;
        Ok(page.map(|page| FollowPage {
            newest: Tid(page.newest),
            behind: (page.unix_ms != 0)
                .then(|| Behind::new(page.behind_transactions, page.behind_more, page.behind_bytes)),
            packed_to: Tid(page.packed_to),
            log: page.log,
        }))
    }
}

impl Unary {
    /// Begins to follow.
    pub(crate) async fn follow(&self, hello: FollowHello) -> Result<FollowBegun, Failure> {
        let (words, requests) = mpsc::channel(WORDS_AHEAD);
        let FollowHello { follower, name, store_id, timeline, have, term, packed_said, life } = hello;
        let hello = v2::FollowHello {
            follower: follower.to_vec().into(),
            name,
            store_id,
            timeline,
            have: have.0,
            term,
            packed_said: packed_said.0,
            life,
        };
        let first = v2::FollowRequest { hello: Some(hello), have: have.0 };
        // Nothing is in the channel yet.
        words.send(first).await.map_err(|_| Failure::lost())?;
        let pages = self.replicator().follow(ReceiverStream::new(requests)).await.map_err(|status| failure(&status))?;
        let mut pages = pages.into_inner();
        let first = pages.message().await.map_err(|status| failure(&status))?;
        let welcome = first.and_then(|page| page.welcome).ok_or_else(Failure::lost)?;
        let v2::FollowWelcome { store_id, timeline, term, shared_to, twice, .. } = welcome;
        let welcome = FollowWelcome { store_id, timeline, term, shared_to: Tid(shared_to), twice };
        Ok(FollowBegun { welcome, followed: Followed { pages, words } })
    }

    /// Tells a server of a newer term, or only asks how it stands (`by` none).
    pub(crate) async fn fence(
        &self,
        store_id: u64,
        term: u64,
        by: Option<&str>,
        hand_over: bool,
    ) -> Result<Replication, Failure> {
        let (ask, by) = (by.is_none(), by.unwrap_or_default().to_owned());
        let request = v2::FenceRequest { store_id, term, by, ask, hand_over };
        let told = self.replicator().fence(request).await.map_err(|status| failure(&status))?;
        Ok(told.into_inner().into())
    }

    /// Makes a copy the primary.
    pub(crate) async fn promote(&self, anyway: bool, hand_over: bool) -> Result<Promoted, Failure> {
        let request = v2::PromoteRequest { anyway, hand_over };
        let reply = self.admin().promote(request).await.map_err(|status| failure(&status))?.into_inner();
        Ok(reply.into())
    }
}
