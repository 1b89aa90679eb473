//! Owns the dependency graph and the search for cycles in it: plain graph work, nothing about transactions.

use std::collections::VecDeque;

/// Why one transaction must come before another.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub(super) enum Kind {
    /// The other wrote the same list next.
    WriteWrite,
    /// The other saw what this one wrote.
    WriteRead,
    /// This one saw the state that the other's write ended.
    ReadWrite,
    /// This one was over before the other began.
    RealTime,
}

/// One reason, with the list and the item that show it (0 for real time).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub(super) struct Edge {
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) kind: Kind,
    pub(super) list: u64,
    pub(super) item: u64,
}

/// The graph; nodes are numbers.
pub(super) struct Graph {
    out: Vec<Vec<Edge>>,
    len: usize,
}

impl Graph {
    pub(super) fn new(nodes: usize, mut edges: Vec<Edge>) -> Graph {
        edges.sort_unstable();
        edges.dedup();
        let len = edges.len();
        let mut out = vec![Vec::new(); nodes];
        edges.into_iter().for_each(|edge| out[edge.from].push(edge));
        Graph { out, len }
    }

    /// The number of edges.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    fn edges(&self, from: usize, kinds: &'static [Kind]) -> impl Iterator<Item = &Edge> {
        self.out[from].iter().filter(|edge| kinds.contains(&edge.kind))
    }

    /// Sets of nodes that all reach each other by edges of these kinds; only sets of two or more. (Tarjan's method, with a stack
    /// of its own, as histories are deeper than threads' stacks.)
    pub(super) fn knots(&self, kinds: &'static [Kind]) -> Vec<Vec<usize>> {
        const NEW: usize = usize::MAX;
        let nodes = self.out.len();
        let (mut index, mut low, mut on_stack) = (vec![NEW; nodes], vec![0; nodes], vec![false; nodes]);
        let (mut stack, mut knots, mut next) = (Vec::new(), Vec::new(), 0);
        for root in 0..nodes {
            if index[root] != NEW {
                continue;
            }
            let mut calls = vec![(root, 0usize)];
            while let Some((node, at)) = calls.pop() {
                if at == 0 {
                    (index[node], low[node], on_stack[node]) = (next, next, true);
                    next += 1;
                    stack.push(node);
                }
                if let Some(edge) = self.out[node].get(at) {
                    calls.push((node, at + 1));
                    if !kinds.contains(&edge.kind) {
                        continue;
                    }
                    if index[edge.to] == NEW {
                        calls.push((edge.to, 0));
                    } else if on_stack[edge.to] {
                        low[node] = low[node].min(index[edge.to]);
                    }
                    continue;
                }
                if low[node] == index[node] {
                    let start = stack.iter().rposition(|other| *other == node).expect("a root is on the stack");
                    let knot = stack.split_off(start);
                    knot.iter().for_each(|member| on_stack[*member] = false);
                    if knot.len() > 1 {
                        knots.push(knot);
                    }
                }
                if let Some((caller, _)) = calls.last() {
                    low[*caller] = low[*caller].min(low[node]);
                }
            }
        }
        knots
    }

    /// A shortest path by edges of these kinds; empty when `from` is `to`.
    pub(super) fn path(&self, from: usize, to: usize, kinds: &'static [Kind]) -> Option<Vec<Edge>> {
        let mut came_by: Vec<Option<Edge>> = vec![None; self.out.len()];
        let mut waiting = VecDeque::from([from]);
        while let Some(node) = waiting.pop_front() {
            if node == to {
                let mut path = Vec::new();
                let mut at = to;
                while at != from {
                    let edge = came_by[at].expect("every node but the first was come by");
                    path.push(edge);
                    at = edge.from;
                }
                path.reverse();
                return Some(path);
            }
            for edge in self.edges(node, kinds) {
                if edge.to != from && came_by[edge.to].is_none() {
                    came_by[edge.to] = Some(*edge);
                    waiting.push_back(edge.to);
                }
            }
        }
        None
    }

    /// A short cycle within a knot: by way of an edge of kind `first`, then edges of kinds `rest`.
    pub(super) fn cycle(&self, knot: &[usize], first: Kind, rest: &'static [Kind]) -> Option<Vec<Edge>> {
        const TRIED_MAX: usize = 1000;
        let starts = knot.iter().flat_map(|node| self.out[*node].iter().filter(|edge| edge.kind == first));
        let within = starts.filter(|edge| knot.contains(&edge.to)).take(TRIED_MAX);
        let cycles = within.filter_map(|edge| {
            let back = self.path(edge.to, edge.from, rest)?;
            Some([vec![*edge], back].concat())
        });
        cycles.min_by_key(Vec::len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: &[Kind] = &[Kind::WriteWrite, Kind::ReadWrite];

    fn graph(nodes: usize, edges: &[(usize, usize)]) -> Graph {
        let edge =
            |(from, to): &(usize, usize)| Edge { from: *from, to: *to, kind: Kind::WriteWrite, list: 0, item: 0 };
        Graph::new(nodes, edges.iter().map(edge).collect())
    }

    #[test]
    fn knots_are_what_reaches_each_other() {
        let graph = graph(7, &[(0, 1), (1, 2), (2, 0), (2, 3), (3, 4), (4, 5), (5, 4)]);
        let mut knots = graph.knots(ALL);
        knots.iter_mut().for_each(|knot| knot.sort_unstable());
        knots.sort();
        assert_eq!(knots, [vec![0, 1, 2], vec![4, 5]]);
        assert_eq!(graph.knots(&[Kind::ReadWrite]), Vec::<Vec<usize>>::new());
    }

    #[test]
    fn a_long_chain_needs_no_deep_stack() {
        let n = 200_000;
        let edges: Vec<(usize, usize)> = (0..n).map(|at| (at, (at + 1) % n)).collect();
        assert_eq!(graph(n, &edges).knots(ALL).len(), 1);
    }

    #[test]
    fn the_shortest_cycle_is_named() {
        let graph = graph(5, &[(0, 1), (1, 2), (2, 3), (3, 0), (2, 0), (1, 4)]);
        let cycle = graph.cycle(&[0, 1, 2, 3], Kind::WriteWrite, ALL).expect("a cycle");
        assert_eq!(cycle.iter().map(|edge| edge.from).collect::<Vec<_>>().len(), 3);
        assert_eq!(graph.path(4, 0, ALL), None);
    }

    #[test]
    fn knots_agree_with_reachability_on_random_graphs() {
        for seed in 0..200 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let nodes = rng.usize(2..9);
            let edges: Vec<_> = (0..rng.usize(..16)).map(|_| (rng.usize(..nodes), rng.usize(..nodes))).collect();
            let graph = graph(nodes, &edges);
            let mut knot_of = vec![usize::MAX; nodes];
            for (at, knot) in graph.knots(ALL).iter().enumerate() {
                knot.iter().for_each(|node| knot_of[*node] = at);
            }
            for a in 0..nodes {
                for b in (0..nodes).filter(|b| *b != a) {
                    let together = graph.path(a, b, ALL).is_some() && graph.path(b, a, ALL).is_some();
                    let same = knot_of[a] == knot_of[b] && knot_of[a] != usize::MAX;
                    assert_eq!(same, together, "seed {seed}, {a} {b}, {edges:?}");
                }
            }
        }
    }
}
