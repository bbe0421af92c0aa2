//! JSON for other programs, and its schemas.

use quorate::render::json::{document, plan::plan, schema};
use serde_json::Value;

use crate::cluster;
use crate::golden::{compare, golden, root};

#[test]
fn schemas_are_those_of_the_types() {
    for (name, schema) in [
        ("plan", schema::plan_schema()),
        ("status", schema::status_schema()),
        ("events", schema::events_schema()),
    ] {
        compare(
            &root().join(format!("schemas/{name}.schema.json")),
            &document(&schema),
        );
    }
}

#[test]
fn a_plan() {
    golden("json/rolling.json", &document(&plan(&cluster::rolling())));
    let bootstrap = plan(&cluster::bootstrap());
    let again = plan(&cluster::bootstrap());
    assert_eq!(document(&bootstrap), document(&again));
}

#[test]
fn names_of_kinds_are_those_of_a_saved_plan() {
    for plan in [cluster::rolling(), cluster::bootstrap(), cluster::destroy()] {
        for (action, shown) in plan.actions.iter().zip(self::plan(&plan).actions) {
            let saved: Value = serde_json::to_value(&action.kind).unwrap();
            assert_eq!(saved["type"], shown.kind);
        }
    }
}

#[test]
fn issued_files_are_unknown_and_say_why() {
    let text = document(&plan(&cluster::rolling()));
    let value: Value = serde_json::from_str(&text).unwrap();
    let changes = value["actions"][1]["changes"].as_array().unwrap();
    let issued = changes
        .iter()
        .find(|change| change["after_unknown"] == true)
        .unwrap();
    assert_eq!(issued["before"], Value::Null);
    assert_eq!(issued["after"], Value::Null);
    assert_eq!(issued["reason"], "it expires in 12 days");
}
