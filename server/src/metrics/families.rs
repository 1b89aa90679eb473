//! Owns how a number is written: its name, its type, its help, its labels.
//!
//! Names follow OpenMetrics: `zeolite_` first, the unit last, counters end in `_total` (the encoder adds it). Every help
//! is one sentence for the person who draws the graph.

use prometheus_client::encoding::{DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;
use std::fmt::Error;

/// A label's name and value.
pub(super) type Label<'a> = (&'static str, &'a str);

/// Writes families one after the other.
pub(super) struct Families<'a> {
    encoder: DescriptorEncoder<'a>,
}

impl<'a> Families<'a> {
    pub(super) fn new(encoder: DescriptorEncoder<'a>) -> Families<'a> {
        Families { encoder }
    }

    /// A number that goes up and down.
    pub(super) fn gauge(&mut self, name: &str, help: &str, value: impl EncodeGaugeValue) -> Result<(), Error> {
        self.begin(name, help, MetricType::Gauge, |mut metric| metric.encode_gauge(&value))
    }

    /// The same by one label.
    pub(super) fn gauges<'l, V: EncodeGaugeValue>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (Label<'l>, V)>,
    ) -> Result<(), Error> {
        self.begin(name, help, MetricType::Gauge, |mut metric| {
            values.into_iter().try_for_each(|(label, value)| metric.encode_family(&[label])?.encode_gauge(&value))
        })
    }

    /// The same by several labels.
    pub(super) fn labelled<'l, V: EncodeGaugeValue>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (Vec<Label<'l>>, V)>,
    ) -> Result<(), Error> {
        self.begin(name, help, MetricType::Gauge, |mut metric| {
            values.into_iter().try_for_each(|(labels, value)| metric.encode_family(&labels)?.encode_gauge(&value))
        })
    }

    /// A number that only goes up, since the server's start.
    pub(super) fn counter(&mut self, name: &str, help: &str, value: impl EncodeCounterValue) -> Result<(), Error> {
        self.begin(name, help, MetricType::Counter, |mut metric| {
            metric.encode_counter::<NoLabelSet, _, f64>(&value, None)
        })
    }

    /// The same by one label.
    pub(super) fn counters<'l>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (Label<'l>, u64)>,
    ) -> Result<(), Error> {
        self.begin(name, help, MetricType::Counter, |mut metric| {
            values.into_iter().try_for_each(|(label, value)| {
                metric.encode_family(&[label])?.encode_counter::<NoLabelSet, _, f64>(&value, None)
            })
        })
    }

    /// Histograms by one label; buckets count what is between their bounds, the last one is infinite.
    pub(super) fn histograms<'l>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (Label<'l>, f64, Vec<(f64, u64)>)>,
    ) -> Result<(), Error> {
        self.begin(name, help, MetricType::Histogram, |mut metric| {
            values.into_iter().try_for_each(|(label, sum, buckets)| {
                let count = buckets.iter().map(|(_, count)| count).sum();
                metric.encode_family(&[label])?.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
            })
        })
    }

    /// What does not change while the server runs.
    pub(super) fn info(&mut self, name: &str, help: &str, labels: &[(&str, String)]) -> Result<(), Error> {
        self.begin(name, help, MetricType::Info, |mut metric| metric.encode_info(&labels.to_vec()))
    }

    fn begin(
        &mut self,
        name: &str,
        help: &str,
        kind: MetricType,
        values: impl FnOnce(MetricEncoder<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let (stem, unit) = split_unit(name);
        values(self.encoder.encode_descriptor(stem, help, unit.as_ref(), kind)?)
    }
}

/// The unit at the end of a name, which the format wants to be told apart.
fn split_unit(name: &str) -> (&str, Option<Unit>) {
    for unit in [Unit::Seconds, Unit::Bytes] {
        let stem = name.strip_suffix(unit.as_str()).and_then(|stem| stem.strip_suffix('_'));
        if let Some(stem) = stem {
            return (stem, Some(unit));
        }
    }
    (name, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_is_told_apart_from_the_name() {
        let unit = |name| split_unit(name).1.map(|unit| unit.as_str().to_owned());
        assert_eq!(unit("zeolite_log_bytes").as_deref(), Some("bytes"));
        assert_eq!(unit("zeolite_uptime_seconds").as_deref(), Some("seconds"));
        assert_eq!(unit("zeolite_commits"), None);
        assert_eq!(split_unit("zeolite_log_bytes").0, "zeolite_log");
    }
}
