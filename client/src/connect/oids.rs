//! Owns the blocks of fresh oids: fetched ahead in the background, so that creating an object rarely asks the server.
//!
//! A block grows with the demand, up to a limit; what is left of it when the client ends is never used, which is harmless.

use super::{Attached, Core, Resend};
use crate::errors::Result;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use zeolite_proto::{Fault, FaultKind, Oid};

/// Oids in the first block, and in the largest.
const BLOCK_OIDS: (u32, u32) = (64, 8192);

#[derive(Debug)]
pub(crate) struct Oids {
    stock: Mutex<Stock>,
    /// Held while a caller fetches, so that others wait for its block rather than fetch their own.
    fetching: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Stock {
    /// Half-open ranges.
    blocks: VecDeque<(u64, u64)>,
    size: u32,
    generation: u64,
    refilling: bool,
}

impl Default for Oids {
    fn default() -> Oids {
        Oids {
            stock: Mutex::new(Stock { size: BLOCK_OIDS.0, ..Stock::default() }),
            fetching: tokio::sync::Mutex::default(),
        }
    }
}

impl Stock {
    fn take(&mut self) -> Option<Oid> {
        let (first, end) = self.blocks.front_mut()?;
        let oid = Oid(*first);
        *first += 1;
        if first == end {
            self.blocks.pop_front();
        }
        Some(oid)
    }

    fn left(&self) -> u64 {
        self.blocks.iter().map(|(first, end)| end - first).sum()
    }

    /// Whether somebody should fetch the next block now; it is larger than the last.
    fn wants_refill(&mut self) -> bool {
        let wants = !self.refilling && self.left() < u64::from(self.size) / 2;
        self.refilling |= wants;
        wants
    }
}

impl Oids {
    /// Another store is behind the address: its oids are not ours.
    pub(crate) fn generation(&self, generation: u64) {
        let mut stock = self.stock.lock();
        if stock.generation != generation {
            stock.blocks.clear();
            stock.generation = generation;
        }
    }

    /// A fresh oid.
    pub(crate) async fn take(&self, core: &Arc<Core>) -> Result<Oid> {
        loop {
            if let Some(oid) = self.ready(core) {
                return Ok(oid);
            }
            let _turn = self.fetching.lock().await;
            if let Some(oid) = self.ready(core) {
                return Ok(oid);
            }
            self.fetch(core).await?;
        }
    }

    fn ready(&self, core: &Arc<Core>) -> Option<Oid> {
        let mut stock = self.stock.lock();
        let oid = stock.take()?;
        if stock.wants_refill() {
            let core = core.clone();
            tokio::spawn(async move {
                // A failure shows when the stock is empty: then a caller fetches and gets the error.
                let _ = core.oids.fetch(&core).await;
                core.oids.stock.lock().refilling = false;
            });
        }
        Some(oid)
    }

    async fn fetch(&self, core: &Arc<Core>) -> Result<()> {
        let size = self.stock.lock().size;
        let fetch = |attached: Arc<Attached>| async move {
            attached.link.new_oids(size).await.map(|block| (block, attached.generation))
        };
        let ((first, count), generation) = core.call_attached(Resend::Always, fetch).await?;
        if count == 0 {
            return Err(Fault::new(FaultKind::Internal, "the server gave an empty block of oids; report this").into());
        }
        let mut stock = self.stock.lock();
        if stock.generation == generation {
            stock.blocks.push_back((first.0, first.0 + u64::from(count)));
            stock.size = (stock.size * 2).min(BLOCK_OIDS.1);
        }
        Ok(())
    }
}
