//! Secrets: where they come from and how they are fetched. The values have neither `Serialize` nor
//! a `Debug` that shows them.

pub mod resolve;

use secrecy::SecretString;

use crate::desired::model::SecretRef;

pub use resolve::Resolver;

/// Fetches secrets. Shared by all hosts of a run, so that a prompt appears once.
pub trait SecretSource: Send + Sync {
    /// Returns the secret behind `reference`. `purpose` is shown by a prompt and in errors, such as
    /// `passphrase of ~/.ssh/id_ed25519`. May block: call it off the async threads.
    ///
    /// # Errors
    /// A sentence that names the reference and what is wrong with it, never the secret.
    fn resolve(&self, reference: &SecretRef, purpose: &str) -> Result<SecretString, String>;
}
