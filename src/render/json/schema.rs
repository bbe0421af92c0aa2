//! JSON Schemas of what other programs read, generated from the types that write it.

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::Value;

use super::event::Line;
use super::plan::PlanDocument;
use crate::render::status::StatusReport;

fn of<T: JsonSchema>() -> Value {
    // For what is written, not what is read: a field that is always written is required, and null is a value.
    let settings = SchemaSettings::draft2020_12().for_serialize();
    settings
        .into_generator()
        .into_root_schema_for::<T>()
        .to_value()
}

/// The schema of `plan --json`.
pub fn plan_schema() -> Value {
    of::<PlanDocument>()
}

/// The schema of `status --json`.
pub fn status_schema() -> Value {
    of::<StatusReport>()
}

/// The schema of one line of `apply --json`.
pub fn events_schema() -> Value {
    of::<Line>()
}
