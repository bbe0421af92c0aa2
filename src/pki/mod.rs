//! The managed authority and the certificates it issues, on the operator's side.
//!
//! One directory holds everything that operators keep and share:
//!
//! | file | mode | what |
//! | --- | --- | --- |
//! | `ca.crt` | 0644 | the authority, the current one first |
//! | `ca.key` or `ca.key.age` | 0600 | its key, plain or encrypted by age |
//! | `operator.crt`, `operator.key` | 0600 | the operator's own certificate, a cache |
//! | `clients/NAME.crt`, `.key`, `.env` | 0644, 0600, 0600 | certificates for people and programs |
//!
//! The key of the authority is opened only to issue, and never leaves this side.

mod authority;
mod client;
mod error;
mod files;
mod key;
mod leaf;
mod operator;
mod protection;

pub use authority::{Authority, AuthorityCertificate, NewAuthority};
pub use client::{ClientFiles, NewClient, ensure_client};
pub use error::PkiError;
pub use leaf::{BACKDATE, Issued, issue};
pub use operator::{
    OPERATOR_NAME, OPERATOR_RENEW_BEFORE, OPERATOR_VALIDITY, OperatorCertificate, ensure_operator,
    load_operator,
};
pub use protection::KeyProtection;

pub use crate::observed::certificate::{Names, Profile, member_names};
