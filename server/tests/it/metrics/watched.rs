//! What is packed for Prometheus and Grafana names metrics that are told.

use super::scrape::{scrape, start};
use std::collections::BTreeSet;
use zeolite_server::store::disk::sim::SimDisk;

const RULES: &str = include_str!("../../../../packaging/prometheus/zeolite.rules.yml");
const DASHBOARD: &str = include_str!("../../../../packaging/grafana/zeolite.json");
const PAGE: &str = include_str!("../../../../docs/operations.md");

/// The names of metrics in a text.
fn names(text: &str) -> BTreeSet<&str> {
    let words = text.split(|letter: char| !(letter.is_ascii_alphanumeric() || letter == '_'));
    words.filter(|word| word.starts_with("zeolite_") || word.starts_with("process_")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_metric_of_the_rules_the_dashboard_and_the_manual_is_told() {
    let server = start(SimDisk::new(), |_| {}).await;
    // Some numbers are a follower's alone.
    let follower = start(SimDisk::new(), |settings| settings.follow.primary = "127.0.0.1:1".into()).await;
    let told = [scrape(&server).await, scrape(&follower).await];
    let is_told = |name: &str| {
        let suffixes = ["", "_total", "_bucket", "_sum", "_count", "_info"];
        let mut families = suffixes.iter().filter_map(|suffix| name.strip_suffix(suffix));
        families.any(|family| told.iter().any(|told| told.kinds.contains_key(family)))
    };
    let manual = PAGE.split("### Metrics").nth(1).and_then(|page| page.split("### Check").next()).expect("a chapter");
    for (file, text, least) in [("rules", RULES, 20), ("dashboard", DASHBOARD, 30), ("manual", manual, 15)] {
        let named = names(text);
        assert!(named.len() >= least, "{file}: {named:?}");
        let unknown: Vec<&&str> = named.iter().filter(|name| !is_told(name)).collect();
        assert!(unknown.is_empty(), "{file} names what is not told: {unknown:?}");
    }
    follower.stop().await.expect("stops");
    server.stop().await.expect("stops");
}
