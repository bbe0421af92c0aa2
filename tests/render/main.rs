//! What the operator and other programs see: golden files under `tests/pure/golden`, made by `QUORATE_BLESS=1`.

mod cluster;
mod golden;
mod graph;
mod json;
mod plan;
mod progress;
mod report;
mod status;
