//! Owns the cutting of a long ordered list into ranges of equal size, while it is read once and never kept. Pure.
//!
//! Every `stride`-th item is kept; when there are too many of those, every second one goes and the stride doubles. So memory is
//! bounded, a short list is cut exactly, and a long one within one stride.

/// Kept items for each range wanted: a range is then wrong by a fiftieth at most.
const KEPT_PER_RANGE: usize = 100;

#[derive(Clone, Debug)]
pub(crate) struct Quantiles<T> {
    ranges: usize,
    stride: u64,
    kept: Vec<T>,
    seen: u64,
    last: Option<T>,
}

impl<T: Clone> Quantiles<T> {
    pub(crate) fn new(ranges: usize) -> Quantiles<T> {
        Quantiles { ranges: ranges.max(1), stride: 1, kept: Vec::new(), seen: 0, last: None }
    }

    /// The next item, in order.
    pub(crate) fn add(&mut self, item: T) {
        self.seen += 1;
        if self.seen.is_multiple_of(self.stride) {
            self.kept.push(item.clone());
        }
        self.last = Some(item);
        if self.kept.len() > self.ranges * KEPT_PER_RANGE {
            let mut place = 0;
            self.kept.retain(|_| {
                place += 1;
                place % 2 == 0
            });
            self.stride *= 2;
        }
    }

    /// The last item of each range, and how many items it has. No range is empty.
    pub(crate) fn cut(self) -> Vec<(T, u64)> {
        let Some(last) = self.last else { return Vec::new() };
        let wanted = (self.ranges as u64).min(self.seen);
        let mut cuts = Vec::new();
        let mut before = 0;
        for range in 1..wanted {
            let end = (self.seen * range / wanted / self.stride * self.stride).min(self.seen);
            if end > before
                && end < self.seen
                && let Some(item) = self.kept.get((end / self.stride) as usize - 1)
            {
                cuts.push((item.clone(), end - before));
                before = end;
            }
        }
        cuts.push((last, self.seen - before));
        cuts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(items: u64, ranges: usize) -> Vec<(u64, u64)> {
        let mut quantiles = Quantiles::new(ranges);
        (1..=items).for_each(|item| quantiles.add(item * 3));
        assert!(quantiles.kept.len() <= ranges * KEPT_PER_RANGE + 1);
        quantiles.cut()
    }

    #[test]
    fn ranges_cover_everything_once_and_evenly() {
        for (items, ranges) in [(0, 4), (1, 4), (3, 4), (4, 4), (10, 3), (1000, 7), (100_000, 4), (123_457, 16)] {
            let cuts = cut(items, ranges);
            assert_eq!(cuts.iter().map(|(_, count)| count).sum::<u64>(), items);
            assert_eq!(cuts.len() as u64, items.min(ranges as u64), "{items} {ranges}");
            let mut before = 0;
            for (last, count) in &cuts {
                assert_eq!(*last, (before + count) * 3, "the count is that of the items up to the last");
                before += count;
                let even = items as f64 / cuts.len() as f64;
                assert!((*count as f64 - even).abs() <= even / 25.0 + 1.0, "{items} {ranges}: {count} of {even}");
            }
        }
    }
}
