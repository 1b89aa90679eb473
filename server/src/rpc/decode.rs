//! Owns the way in: wire requests as the engine's arguments, with the limits that belong to a request's shape.
//!
//! What a draft may hold is the engine's to check; how many cells, entries or oids one request may name is checked here,
//! before anything is done for it.

use crate::engine::Preparing;
use crate::store::Range;
use zeolite_proto::wire::v2;
use zeolite_proto::{Cell, Fault, Limits, Oid};

/// The cells of a load from `continued_from` on.
pub(super) fn load_cells(request: v2::LoadRequest, limits: &Limits) -> Result<Vec<Cell>, Fault> {
    let count = request.cells.len();
    if count > limits.load_cells_max {
        return Err(Fault::too_large("number of cells in a load", count, limits.load_cells_max));
    }
    let skip = request.continued_from as usize;
    if skip >= count {
        return Err(Fault::invalid(format!(
            "a load of {count} cells cannot be continued from cell {skip}; name at least one cell to answer"
        )));
    }
    let cells: Vec<Cell> = request.cells.into_iter().skip(skip).map(Cell::from).collect();
    cells.iter().try_for_each(|cell| key_fits(&cell.key, limits))?;
    Ok(cells)
}

/// The cell of a request about one cell.
pub(super) fn named_cell(cell: Option<v2::Cell>, limits: &Limits) -> Result<Cell, Fault> {
    let cell =
        Cell::from(cell.ok_or_else(|| Fault::invalid("no cell is named; give its oid, and the key of an entry"))?);
    key_fits(&cell.key, limits)?;
    Ok(cell)
}

/// The range of a scan, and the entries that the caller wants at most (0: as many as there are).
pub(super) fn scan_range(request: v2::ScanRequest, limits: &Limits) -> Result<(Range, usize), Fault> {
    key_fits(&request.from, limits)?;
    key_fits(&request.to, limits)?;
    if !request.to.is_empty() && request.from > request.to {
        return Err(Fault::invalid(
            "a scan's `from` is greater than its `to`; `from` is the lower end in both directions",
        ));
    }
    let range = Range {
        oid: Oid(request.oid),
        from: request.from,
        to: request.to,
        reverse: request.reverse,
        keys_only: request.keys_only,
    };
    Ok((range, request.limit as usize))
}

/// How many entries or revisions one page may have: what is asked for, within the limit.
pub(super) fn page_limit(asked: usize, limits: &Limits) -> usize {
    if asked == 0 { limits.scan_entries_max } else { asked.min(limits.scan_entries_max) }
}

/// How many oids to hand out.
pub(super) fn oid_count(request: &v2::NewOidsRequest, limits: &Limits) -> Result<u32, Fault> {
    match request.count {
        0 => Err(Fault::invalid("0 oids were asked for; ask for at least one")),
        count if count > limits.oids_max => {
            Err(Fault::too_large("number of oids", count as usize, limits.oids_max as usize))
        }
        count => Ok(count),
    }
}

fn key_fits(key: &[u8], limits: &Limits) -> Result<(), Fault> {
    // A scan may begin right behind the longest key: that key with a zero byte appended.
    if key.len() > limits.key_bytes_max + 1 {
        return Err(Fault::too_large("key length in bytes", key.len(), limits.key_bytes_max));
    }
    Ok(())
}

/// How a draft is to be prepared.
pub(super) fn preparing(request: &v2::PrepareRequest) -> Preparing {
    Preparing { time_limit_ms: request.time_limit_ms, durable: request.durable, hold: request.hold }
}
