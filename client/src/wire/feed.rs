//! Owns the feed as it arrives: batches, decoded, and a large commit's pieces put together.
//!
//! A commit is handed to the inbox when all of its pieces are there. There it goes to the cache, then the position moves, then watchers
//! hear of it: so nobody reads at a tid whose invalidations are not all applied, whoever has heard of a commit reads what it wrote, and a
//! session that ends between two pieces resumes before that commit. What is kept meanwhile is bounded by what a server takes as one draft. Of
//! commits that wrote nothing that this client may hold, only how far they have come is told.

use super::Inbox;
use bytes::Bytes;
use prost::Message;
use zeolite_proto::wire::v2;
use zeolite_proto::{Cell, Tid};

/// The pieces of one session's feed.
#[derive(Debug, Default)]
pub(super) struct FeedJoiner {
    /// The commit whose last piece is still to come.
    open: Option<(Tid, Vec<Cell>)>,
}

impl FeedJoiner {
    /// Takes the next batch; what is whole goes to the inbox. The error says what is wrong with it.
    pub(super) fn take(&mut self, batch: Bytes, inbox: &dyn Inbox) -> Result<(), String> {
        let batch = v2::FeedBatch::decode(batch).map_err(|error| format!("the feed cannot be decoded: {error}"))?;
        let mut newest = Tid::NONE;
        let mut items = batch.items.into_iter().peekable();
        while let Some(item) = items.next() {
            let tid = Tid(item.tid);
            let mut cells: Vec<Cell> = match self.open.take() {
                Some((open, _)) if open != tid => {
                    return Err(format!("the feed of {open} ends in its middle, at {tid}"));
                }
                Some((_, cells)) => cells,
                None => Vec::with_capacity(item.cells.len()),
            };
            cells.extend(item.cells.into_iter().map(Cell::from));
            if batch.more && items.peek().is_none() {
                self.open = Some((tid, cells));
            } else {
                newest = tid;
                inbox.changed(tid, batch.timeline, cells);
            }
        }
        inbox.reached(newest.max(Tid(batch.up_to)), batch.timeline);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use parking_lot::Mutex;
    use zeolite_proto::{Fault, Mode, Oid, Pressure};

    #[derive(Default)]
    struct Told(Mutex<Vec<String>>);

    impl Inbox for Told {
        fn changed(&self, tid: Tid, timeline: u64, cells: Vec<Cell>) {
            assert_eq!(timeline, 9);
            let oids: Vec<u64> = cells.iter().map(|cell| cell.oid.0).collect();
            self.0.lock().push(format!("{} {oids:?}", tid.0));
        }
        fn reached(&self, tid: Tid, timeline: u64) {
            self.0.lock().push(format!("at {} of {timeline}", tid.0));
        }
        fn mode(&self, _: Mode) {}
        fn going_down(&self, _: Fault) {}
        fn pressed(&self, _: Pressure) {}
    }

    fn batch(items: &[(u64, &[u64])], more: bool) -> Bytes {
        let cells = |oids: &[u64]| oids.iter().map(|oid| v2::Cell::from(&Cell::object(Oid(*oid)))).collect();
        let items = items.iter().map(|(tid, oids)| v2::FeedItem { tid: *tid, cells: cells(oids) }).collect();
        v2::FeedBatch { items, more, timeline: 9, up_to: 0 }.encode_to_vec().into()
    }

    #[test]
    fn a_commit_in_pieces_is_told_when_its_last_piece_is_there() {
        let (mut joiner, told) = (FeedJoiner::default(), Told::default());
        let mut take = |batch| joiner.take(batch, &told).map(|()| std::mem::take(&mut *told.0.lock()));
        assert_eq!(take(batch(&[(1, &[7]), (2, &[8])], true)), Ok(vec!["1 [7]".into(), "at 1 of 9".into()]));
        assert_eq!(take(batch(&[(2, &[9])], true)), Ok(vec!["at 0 of 9".into()]));
        assert_eq!(
            take(batch(&[(2, &[10]), (3, &[])], false)),
            Ok(vec!["2 [8, 9, 10]".into(), "3 []".into(), "at 3 of 9".into()])
        );
        assert_eq!(take(batch(&[(4, &[1])], true)), Ok(vec!["at 0 of 9".into()]));
        assert!(take(batch(&[(5, &[1])], false)).is_err(), "the rest of 4 is missing");
        let up_to = |up_to, items| v2::FeedBatch { items, up_to, timeline: 9, more: false }.encode_to_vec().into();
        assert_eq!(take(up_to(8, vec![])), Ok(vec!["at 8 of 9".into()]));
        let item = v2::FeedItem { tid: 9, cells: vec![] };
        assert_eq!(take(up_to(12, vec![item])), Ok(vec!["9 []".into(), "at 12 of 9".into()]));
    }
}
