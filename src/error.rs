//! How a command ends.

use std::fmt;

/// Nothing to do, or done.
pub const OK: u8 = 0;
/// An error, wrong usage included.
pub const ERROR: u8 = 1;
/// There are changes (`plan --detailed-exitcode`).
pub const CHANGES: u8 = 2;
/// Blocked, or refused for safety.
pub const BLOCKED: u8 = 3;
/// Declined at the prompt.
pub const DECLINED: u8 = 4;
/// Another operator holds the lock.
pub const LOCKED: u8 = 5;
/// Interrupted.
pub const INTERRUPTED: u8 = 130;

/// Why a command failed: what the operator reads, and the exit code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Exit code.
    pub code: u8,
    /// A sentence; `None` where everything was said already.
    pub message: Option<String>,
    /// What can be done.
    pub remedy: Option<String>,
}

impl Failure {
    /// An error with a message.
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            code: ERROR,
            message: Some(message.into()),
            remedy: None,
        }
    }

    /// A failure of which everything was said already.
    pub fn silent(code: u8) -> Self {
        Self {
            code,
            message: None,
            remedy: None,
        }
    }

    /// With another exit code.
    #[must_use]
    pub fn code(mut self, code: u8) -> Self {
        self.code = code;
        self
    }

    /// With a remedy.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(message) = &self.message {
            write!(f, "Error: {message}")?;
        }
        if let Some(remedy) = &self.remedy {
            write!(f, "\n  {remedy}")?;
        }
        Ok(())
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::new(error.to_string())
    }
}
