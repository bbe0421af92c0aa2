//! Dependencies of actions as a graph.

use std::collections::{BTreeMap, BTreeSet};

use petgraph::algo::toposort;
use petgraph::algo::tred::{dag_to_toposorted_adjacency_list, dag_transitive_reduction_closure};
use petgraph::graph::{DiGraph, NodeIndex};

use crate::action::{Action, ActionId};

/// The actions cannot be put in order.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GraphError {
    /// An action needs one that is not there.
    #[error("action {0} needs {1}, which is not in the plan")]
    Missing(ActionId, ActionId),
    /// Actions need each other.
    #[error("action {0} needs itself, by way of others")]
    Cycle(ActionId),
    /// Two actions have one name.
    #[error("two actions are called {0}")]
    Twice(ActionId),
}

type Graph<'a> = DiGraph<&'a ActionId, ()>;

fn graph(actions: &[Action]) -> Result<(Graph<'_>, BTreeMap<&ActionId, NodeIndex>), GraphError> {
    let mut graph = DiGraph::new();
    let mut index = BTreeMap::new();
    for action in actions {
        if index
            .insert(&action.id, graph.add_node(&action.id))
            .is_some()
        {
            return Err(GraphError::Twice(action.id.clone()));
        }
    }
    for action in actions {
        for need in &action.needs {
            let from = index
                .get(need)
                .ok_or_else(|| GraphError::Missing(action.id.clone(), need.clone()))?;
            graph.add_edge(*from, index[&action.id], ());
        }
    }
    Ok((graph, index))
}

/// Sorts the actions so that each comes after those it needs; ties by name.
pub fn sort(actions: Vec<Action>) -> Result<Vec<Action>, GraphError> {
    {
        let (graph, _) = graph(&actions)?;
        toposort(&graph, None)
            .map_err(|cycle| GraphError::Cycle(graph[cycle.node_id()].clone()))?;
    }
    // toposort's own order depends on the order of insertion; a ready list by name does not.
    let mut waiting: BTreeMap<ActionId, Action> = actions
        .into_iter()
        .map(|action| (action.id.clone(), action))
        .collect();
    let mut dependants: BTreeMap<ActionId, Vec<ActionId>> = BTreeMap::new();
    let mut missing: BTreeMap<ActionId, usize> = BTreeMap::new();
    for action in waiting.values() {
        missing.insert(action.id.clone(), action.needs.len());
        for need in &action.needs {
            dependants
                .entry(need.clone())
                .or_default()
                .push(action.id.clone());
        }
    }
    let mut ready: BTreeSet<ActionId> = missing
        .iter()
        .filter(|(_, count)| **count == 0)
        .map(|(id, _)| id.clone())
        .collect();
    let mut sorted = Vec::with_capacity(waiting.len());
    while let Some(id) = ready.pop_first() {
        for dependant in dependants.remove(&id).unwrap_or_default() {
            if let Some(count) = missing.get_mut(&dependant) {
                *count -= 1;
                if *count == 0 {
                    ready.insert(dependant);
                }
            }
        }
        sorted.extend(waiting.remove(&id));
    }
    Ok(sorted)
}

/// The edges that remain when every one that others imply is left out, for people to read.
pub fn reduced_edges(actions: &[Action]) -> Result<Vec<(ActionId, ActionId)>, GraphError> {
    let (graph, _) = graph(actions)?;
    let order = toposort(&graph, None)
        .map_err(|cycle| GraphError::Cycle(graph[cycle.node_id()].clone()))?;
    let (list, _) = dag_to_toposorted_adjacency_list::<_, u32>(&graph, &order);
    let (reduction, _) = dag_transitive_reduction_closure(&list);
    let mut edges: Vec<(ActionId, ActionId)> = reduction
        .edge_indices()
        .filter_map(|edge| reduction.edge_endpoints(edge))
        .map(|(from, to)| {
            (
                graph[order[from as usize]].clone(),
                graph[order[to as usize]].clone(),
            )
        })
        .collect();
    edges.sort();
    Ok(edges)
}
