//! The graph of a plan's actions, for Graphviz and Mermaid. Edges that others imply are left out.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::style::clean;
use crate::action::{Action, ActionId, Verb};
use crate::plan::Plan;
use crate::plan::graph::{GraphError, reduced_edges};

/// The graph in DOT: `quorate graph | dot -Tsvg`.
///
/// # Errors
/// When the actions of the plan are no graph, which the planner rules out.
pub fn dot(plan: &Plan) -> Result<String, GraphError> {
    let edges = reduced_edges(&plan.actions)?;
    let mut text = String::from("digraph plan {\n  rankdir = \"LR\"\n  node [shape = \"box\"]\n");
    for (number, (group, actions)) in groups(plan).into_iter().enumerate() {
        let _ = writeln!(text, "  subgraph cluster_{number} {{");
        let _ = writeln!(
            text,
            "    label = {}",
            dot_quote(group.unwrap_or("cluster"))
        );
        for action in actions {
            let kind = action.kind.as_kind();
            let _ = writeln!(
                text,
                "    {} [color = \"{}\", tooltip = {}]",
                dot_quote(&action.id.0),
                colour(kind.verb()),
                dot_quote(&kind.summary()),
            );
        }
        text.push_str("  }\n");
    }
    for (from, to) in edges {
        let _ = writeln!(text, "  {} -> {}", dot_quote(&from.0), dot_quote(&to.0));
    }
    text.push_str("}\n");
    Ok(text)
}

/// The graph in Mermaid, which GitHub and GitLab draw in a comment.
///
/// # Errors
/// When the actions of the plan are no graph, which the planner rules out.
pub fn mermaid(plan: &Plan) -> Result<String, GraphError> {
    let edges = reduced_edges(&plan.actions)?;
    // Mermaid's own words cannot be names; numbers in the plan's order can.
    let names: BTreeMap<&ActionId, String> = plan
        .actions
        .iter()
        .enumerate()
        .map(|(number, action)| (&action.id, format!("a{number}")))
        .collect();
    let mut text = String::from("flowchart LR\n");
    for (number, (group, actions)) in groups(plan).into_iter().enumerate() {
        let label = mermaid_quote(group.unwrap_or("cluster"));
        let _ = writeln!(text, "  subgraph g{number}[{label}]");
        for action in actions {
            let class = match action.kind.as_kind().verb() {
                Verb::Create => "create",
                Verb::Update => "update",
                Verb::Destroy => "destroy",
            };
            let name = names.get(&action.id).map_or("", String::as_str);
            let _ = writeln!(
                text,
                "    {name}[{}]:::{class}",
                mermaid_quote(&action.id.0)
            );
        }
        text.push_str("  end\n");
    }
    for (from, to) in &edges {
        if let (Some(from), Some(to)) = (names.get(from), names.get(to)) {
            let _ = writeln!(text, "  {from} --> {to}");
        }
    }
    for verb in [Verb::Create, Verb::Update, Verb::Destroy] {
        let class = match verb {
            Verb::Create => "create",
            Verb::Update => "update",
            Verb::Destroy => "destroy",
        };
        let _ = writeln!(text, "  classDef {class} stroke:{}", colour(verb));
    }
    Ok(text)
}

/// Actions by node, then those of the cluster, each in the plan's order.
fn groups(plan: &Plan) -> Vec<(Option<&str>, Vec<&Action>)> {
    let mut groups: BTreeMap<(bool, Option<&str>), Vec<&Action>> = BTreeMap::new();
    for action in &plan.actions {
        let node = action.node.as_deref();
        groups
            .entry((node.is_none(), node))
            .or_default()
            .push(action);
    }
    groups
        .into_iter()
        .map(|((_, node), actions)| (node, actions))
        .collect()
}

fn colour(verb: Verb) -> &'static str {
    match verb {
        Verb::Create => "darkgreen",
        Verb::Update => "goldenrod",
        Verb::Destroy => "firebrick",
    }
}

/// A quoted string of DOT, in which a backslash starts an escape of its own.
fn dot_quote(text: &str) -> String {
    let text = clean(text)
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n");
    format!("\"{text}\"")
}

/// A quoted label of Mermaid, where HTML is live and `#` starts an entity.
fn mermaid_quote(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in clean(text).chars() {
        match c {
            '"' | '#' | '&' | '<' | '>' | '`' | ';' => {
                let _ = write!(quoted, "#{};", u32::from(c));
            }
            '\n' => quoted.push(' '),
            _ => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_hold() {
        assert_eq!(dot_quote("a\"b\\c\nd"), r#""a\"b\\c\nd""#);
        assert_eq!(mermaid_quote("<a \"b\">#"), "\"#60;a #34;b#34;#62;#35;\"");
    }
}
