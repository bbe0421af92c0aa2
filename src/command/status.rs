//! `quorate status`.

use std::path::Path;

use time::OffsetDateTime;

use super::out;
use super::session::{Connection, Session, load};
use crate::error::{ERROR, Failure, OK};
use crate::render::{self, Style};

/// Arguments of `status`.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Print the status as JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub connection: Connection,
}

/// Runs `status`: 0 only when every member is healthy and the membership is that of the file.
///
/// # Errors
/// An unreadable cluster file.
pub async fn run(file: &Path, args: &Args, style: Style) -> Result<u8, Failure> {
    let session = Session::open(load(file, style.color)?, &args.connection)?;
    let observed = session.observe().await;
    let report = render::status::StatusReport::new(
        &session.desired,
        &observed,
        OffsetDateTime::now_utc().unix_timestamp(),
    );
    let text = match args.json {
        true => render::json::document(&report),
        false => render::status::text(&report, style),
    };
    out::print(&text)?;
    Ok(if report.is_healthy() { OK } else { ERROR })
}
